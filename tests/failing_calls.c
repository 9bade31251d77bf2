/* Makes calls on the files of an index fail as a bad disk or a poor file system does, for LD_PRELOAD.

   FAILING names what fails: lock, read or write. Where FAILING_WHILE names a file, that is so only while it
   exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int fails(const char *what, int fd)
{
    const char *failing = getenv("FAILING"), *while_there = getenv("FAILING_WHILE");
    char link[64], path[4096];
    ssize_t length;

    if (failing == NULL || strcmp(failing, what) != 0)
        return 0;
    if (while_there != NULL && access(while_there, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "index.sqlite") != NULL || strstr(path, "writer.lock") != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread64(int fd, void *to, size_t count, off64_t at)
{
    if (fails("read", fd)) { errno = EIO; return -1; }
    return REAL(pread64)(fd, to, count, at);
}

ssize_t pread(int fd, void *to, size_t count, off_t at)
{
    if (fails("read", fd)) { errno = EIO; return -1; }
    return REAL(pread)(fd, to, count, at);
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at)
{
    if (fails("write", fd)) { errno = EIO; return -1; }
    return REAL(pwrite64)(fd, from, count, at);
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at)
{
    if (fails("write", fd)) { errno = EIO; return -1; }
    return REAL(pwrite)(fd, from, count, at);
}

int fdatasync(int fd)
{
    if (fails("write", fd)) { errno = EIO; return -1; }
    return REAL(fdatasync)(fd);
}

int flock(int fd, int operation)
{
    if (fails("lock", fd)) { errno = ENOLCK; return -1; }
    return REAL(flock)(fd, operation);
}

static int is_lock(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK
        || command == F_OFD_SETLK || command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

int fcntl(int fd, int command, ...)
{
    va_list rest;
    void *argument;

    va_start(rest, command);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (is_lock(command) && fails("lock", fd)) { errno = ENOLCK; return -1; }
    return REAL(fcntl)(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list rest;
    void *argument;

    va_start(rest, command);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (is_lock(command) && fails("lock", fd)) { errno = ENOLCK; return -1; }
    return REAL(fcntl64)(fd, command, argument);
}
