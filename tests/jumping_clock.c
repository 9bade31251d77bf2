/* A machine's clock that somebody sets while it runs, for LD_PRELOAD: the time of day is off by the seconds in
   the file that JUMPING_CLOCK names, eight bytes that may change at any moment. Clocks that nobody can set go
   on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t offset(void)
{
    static volatile int64_t *shared;
    const char *path;
    int fd;

    if (shared == NULL) {
        path = getenv("JUMPING_CLOCK");
        if (path == NULL || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            return 0;
        void *mapped = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (mapped == MAP_FAILED)
            return 0;
        shared = mapped;
    }
    return *shared;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = REAL(clock_gettime)(clock, now);

    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = REAL(gettimeofday)(now, zone);

    if (result == 0)
        now->tv_sec += offset();
    return result;
}

time_t time(time_t *where)
{
    time_t now = REAL(time)(NULL) + offset();

    if (where != NULL)
        *where = now;
    return now;
}
