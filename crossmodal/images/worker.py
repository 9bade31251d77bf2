"""A process that decodes: ``python -m crossmodal.images.worker SOCKET MEMORY LIFELINE``, started by ``pool``.

It imports nothing but Pillow, and beside it what the format of a photo needs. Each job comes over the socket
as a line of JSON; the photo's file lies in the shared memory, where the answer is written over it. The memory
that it may take is limited to what was granted for the job, so that a header that lies costs this one photo.
It is killed by the kernel when the other end of the lifeline closes, which is when its parent ends, whatever
it does at that moment.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from crossmodal.errors import ImageError
from crossmodal.images.cropping import Square, cut_square
from crossmodal.images.decoding import Opened, image_errors, jpeg_of, picture_of
from crossmodal.images.formats import format_of
from crossmodal.images.previews import preview_of

__all__ = ["MAX_ANSWER_BYTES", "MAX_MESSAGE_BYTES", "end_with_parent", "restrict"]

# A line about a job or an answer.
MAX_MESSAGE_BYTES = 8192

# Pixels and a thumbnail, or a whole picture. The worker can write no larger file; the shared memory is one.
MAX_ANSWER_BYTES = 32 << 20

# It opens modules and their libraries, and nothing else.
_MAX_FILES = 64

# Where memory runs out, the kernel is to end this process and not the one with the model.
_FIRST_TO_END = "900"

# Where libraries say how many threads one photo gets.
_THREADS = (("PIL.AvifImagePlugin", "DEFAULT_MAX_THREADS"), ("pillow_heif.options", "DECODE_THREADS"))

_PAGE = resource.getpagesize()


def _main(arguments: list[str]) -> None:
    messages, memory, lifeline = (int(number) for number in arguments)
    end_with_parent(lifeline)
    restrict()
    warnings.simplefilter("ignore")
    with socket.socket(fileno=messages) as parent:
        parent.send(b"ready")
        while message := parent.recv(MAX_MESSAGE_BYTES):
            answer = _answer(json.loads(message), parent, memory)
            parent.send(json.dumps(answer).encode())


def _answer(job: dict[str, Any], parent: socket.socket, memory: int) -> dict[str, Any]:
    blob = os.pread(memory, job["bytes"], 0)
    try:
        with image_errors(blob):
            pixels, picture, warning = _decode(job, blob, _Allowance(parent, job["granted"]))
    except ImageError as error:
        return {"error": str(error)}
    finally:
        _limit_memory(None)
    os.pwrite(memory, pixels + picture, 0)
    return {"pixels": len(pixels), "picture": len(picture), "warning": warning}


def _decode(job: dict[str, Any], blob: bytes, allowance: _Allowance) -> tuple[bytes, bytes, str | None]:
    """The pixels of the square, the thumbnail or whole picture that is asked for, and a warning."""
    square = job["square"]
    # Whatever is imported meanwhile would count as the photo's.
    format_of(blob).load_reader()
    if job.get("preview") is not None:
        import_module("PIL.WebPImagePlugin")
    _use_one_thread()
    _limit_memory(allowance.granted)
    opened = Opened(blob, job["max_pixels"], allowance.grow, job["short_side"], whole=square is None)
    if opened.modules:
        _limit_memory(None)
        for module in opened.modules:
            import_module(module)
        _limit_memory(allowance.granted)
    decoded = opened.decode()
    if square is None:
        if (short_side := job["preview"]) is not None:
            return b"", preview_of(decoded.image, short_side), decoded.warning
        if (side := job["side"]) is not None:
            decoded.image.thumbnail((side, side))
        return b"", picture_of(decoded.image, most=MAX_ANSWER_BYTES), decoded.warning
    pixels = cut_square(decoded.image, Square(**square), decoded.frame).tobytes()
    return pixels, jpeg_of(decoded.image) if job["thumbnail"] else b"", decoded.warning


def _use_one_thread() -> None:
    """Of the libraries that are there by now: each thread takes memory, and other processes use the cores."""
    for module, name in _THREADS:
        if module in sys.modules:
            setattr(sys.modules[module], name, 1)
    if "pyjpegxl" in sys.modules:
        sys.modules["pyjpegxl"].set_num_threads(1)


class _Allowance:
    """How many bytes the job may take; more has to be asked for."""

    def __init__(self, parent: socket.socket, granted: int) -> None:
        self._parent = parent
        self.granted = granted

    def grow(self, needed: int) -> None:
        """Asks the parent, which may wait; raises ImageError where it doesn't grant it."""
        if needed <= self.granted:
            return
        self._parent.send(json.dumps({"needed": needed}).encode())
        self.granted = json.loads(self._parent.recv(MAX_MESSAGE_BYTES))["granted"]
        if self.granted < needed:
            raise ImageError("There is not enough memory to decode the image.")
        _limit_memory(self.granted)


def _limit_memory(further: int | None) -> None:
    """Lets this process take so many bytes more than it has now; None: as many as it was started with."""
    limit = most = resource.getrlimit(resource.RLIMIT_AS)[1]
    if further is not None:
        limit = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE + further
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def end_with_parent(lifeline: int) -> None:
    """Lets the kernel kill this process when the other end of the pipe closes."""
    # A signal, and not a thread that waits: it reaches a process that is stuck in a codec, or stopped.
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    # It may have ended before that.
    with suppress(BlockingIOError):
        os.read(lifeline, 1)
        sys.exit()


def restrict() -> None:
    """Lets this process write no large file, open few, leave no core, and be the first to end."""
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MAX_ANSWER_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
    ):
        with suppress(ValueError):
            resource.setrlimit(kind, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_END, encoding="ascii")


if __name__ == "__main__":
    _main(sys.argv[1:])
