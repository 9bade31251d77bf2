"""Photos of strangers, decoded in a few small processes: what happens to one of them costs one photo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from crossmodal.deadlines import check_deadline
from crossmodal.errors import DeadlinePassed, ImageError, ServiceError
from crossmodal.images.budget import MemoryBudget, Reservation, process_budget
from crossmodal.images.cropping import Square
from crossmodal.images.formats import name_of
from crossmodal.images.limits import FIRST_GRANT_BYTES, MAX_DECODE_WORKERS, MAX_PIXELS, decode_seconds
from crossmodal.images.worker import MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES
from crossmodal.machine import available_cores
from crossmodal.processes import exit_words, module_environment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DecodePool", "ModelPhoto", "PhotoRequest", "decoder_environment", "shared_pool"]

# Python and Pillow take a fraction of a second, on a busy machine some.
_START_SECONDS = 60.0

# How often those that wait for a process look whether somebody still waits for them.
_POLL_SECONDS = 0.05

# What is killed ends at once, unless the kernel itself is stuck in it.
_END_SECONDS = 5.0

# The shared memory of an ordinary photo is kept for the next one.
_KEPT_BYTES = 1 << 20

# Decoding takes more bytes for each pixel, so that the time for so many pixels is never too short.
_LEAST_PIXEL = 4

# What a process says before it ends while starting.
_MOST_SAID = 1000

_ENVIRONMENT = {
    # Freed memory goes back to the system, and one thread needs one arena.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    # numpy, where it is needed, starts no threads.
    "OPENBLAS_NUM_THREADS": "1",
    # Nor does LibRaw.
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """What is wanted of a photo: the ``square`` that a model sees, and a thumbnail or none.

    A JPEG may be decoded at a fraction of its size that leaves it ``short_side`` pixels.
    """

    square: Square
    short_side: int
    thumbnail: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ModelPhoto:
    """A photo as a model sees it, ``pixels`` uint8 (size, size, 3), and its ``thumbnail``, a small JPEG.

    ``warning`` is a sentence on what could not be read of a damaged file.
    """

    pixels: NDArray[np.uint8]
    thumbnail: bytes | None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a process gave: the ``pixels`` of a square, if any, and a thumbnail or whole picture, if any."""

    pixels: bytes
    picture: bytes
    warning: str | None


class DecodePool:
    """Processes that decode, each one photo at a time; at most ``most``, started when they are needed.

    All of them together take no more memory than ``budget`` has. ``seconds`` says how long a photo of so many
    pixels may take. Safe across threads; a process that was forked from this one has none of them. Close it,
    or use it in a ``with`` statement.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        *,
        most: int | None = None,
        seconds: Callable[[int], float] = decode_seconds,
    ) -> None:
        self.budget = budget
        self._most = most or min(available_cores(), MAX_DECODE_WORKERS)
        self._seconds = seconds
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._count = 0
        self._closed = False
        self._process = os.getpid()

    def prepare(self) -> None:
        """Starts a first process, without waiting for it; raises ServiceError where that is impossible."""
        with self._changed:
            self._after_fork()
            if self._count or self._closed:
                return
            self._count = 1
            self._put_back(self._started())

    def decode(self, blob: bytes, request: PhotoRequest) -> ModelPhoto:
        """The photo in the bytes of a file, upright and RGB, as ``request`` wants it.

        Waits for a process and for memory. Raises ImageError as ``decode_image`` does, and where the decoder
        crashes, hangs or takes more memory than the header promises; ServiceError where no process starts;
        DeadlinePassed where nobody waits for it any more before it has a process and memory.
        """
        import numpy as np

        answer = self._answer(blob, _job(blob, request))
        size = request.square.size
        if len(answer.pixels) != size * size * 3:
            raise ImageError("Decoding the file gave no image of the size that the model takes.")
        square = np.frombuffer(answer.pixels, np.uint8).reshape(size, size, 3)
        return ModelPhoto(square, answer.picture if request.thumbnail else None, answer.warning)

    def picture(self, blob: bytes, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> bytes:
        """The whole photo in the bytes of a file as a JPEG, upright and in sRGB.

        Its longer side has at most ``side`` pixels, by default as many as the photo has. Waits and raises
        as ``decode``, and ImageError where the JPEG has more than ``MAX_ANSWER_BYTES``.
        """
        return self._answer(blob, _picture_job(blob, max_pixels, side=side)).picture

    def preview(self, blob: bytes, side: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
        """A small WebP of the photo in the bytes of a file, as ``preview_of`` makes it with that ``side``.

        A JPEG is decoded at a fraction of its size where that is enough. Waits and raises as ``decode``.
        """
        return self._answer(blob, _picture_job(blob, max_pixels, preview=side)).picture

    def _answer(self, blob: bytes, job: dict[str, Any]) -> _Answer:
        first = _first_grant(blob) + _bytes_of(blob)
        with self._worker() as worker, self.budget.reserve(first) as reserved:
            return worker.decode(blob, job, reserved, self._seconds)

    def pids(self) -> list[int]:
        """The processes that have nothing to do at the moment."""
        with self._changed:
            return [worker.pid for worker in self._idle]

    def close(self) -> None:
        """Ends all processes, those at work after that."""
        with self._changed:
            self._closed = True
            ending, self._idle = self._idle, []
            self._count -= len(ending)
        for worker in ending:
            worker.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """A process for one photo; one that doesn't answer any more is ended and not used again."""
        worker = self._taken()
        try:
            yield worker
        finally:
            with self._changed:
                again = worker.usable and not self._closed
                if again:
                    self._put_back(worker)
                else:
                    self._count -= 1
                    self._changed.notify()
            if not again:
                worker.end()

    def _taken(self) -> _Worker:
        with self._changed:
            self._after_fork()
            while not self._idle and self._count >= self._most:
                check_deadline()
                self._changed.wait(_POLL_SECONDS)
            # The last one that worked: its memory is warm, and the others can be swapped out.
            worker = self._idle.pop() if self._idle else None
            if worker is None:
                self._count += 1
        if worker is not None and worker.alive:
            return worker
        if worker is not None:
            worker.end()
        return self._started()

    def _started(self) -> _Worker:
        try:
            return _Worker()
        except OSError as error:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise ServiceError(f"No process that decodes photos could be started ({error}).") from error

    def _put_back(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._changed.notify()

    def _after_fork(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            for worker in self._idle:
                worker.forget()
            self._idle, self._count = [], 0


class _Worker:
    """One process, a socket for messages and the memory that is shared with it."""

    def __init__(self) -> None:
        self.usable = True
        self._ready = False
        self._memory = os.memfd_create("crossmodal-photo", os.MFD_CLOEXEC)
        self._said = os.memfd_create("crossmodal-decoder", os.MFD_CLOEXEC)
        self._messages, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Nothing is ever written into it; it closes with this process.
        lifeline, self._lifeline = os.pipe()
        try:
            numbers = (theirs.fileno(), self._memory, lifeline)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "crossmodal.images.worker", *map(str, numbers)],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                env=decoder_environment(),
                # The terminal's Ctrl-C is not for it.
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            os.close(lifeline)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def decode(
        self, blob: bytes, job: dict[str, Any], reserved: Reservation, seconds: Callable[[int], float]
    ) -> _Answer:
        """One photo; afterwards ``usable`` says whether it can decode another one."""
        self._await_ready()
        # Until it has said that it is done.
        self.usable = False
        try:
            answer = self._ask(blob, job, reserved, seconds)
            found = None if "error" in answer else self._read(answer)
            if len(blob) > _KEPT_BYTES:
                os.ftruncate(self._memory, 0)
            self.usable = True
        except TimeoutError:
            raise ImageError(
                f"Decoding the {name_of(blob)} file of {len(blob):,} bytes was given up after "
                f"{self._messages.gettimeout() or 0:.0f} seconds."
            ) from None
        except (EOFError, ConnectionError, ValueError):
            raise ImageError(
                f"Decoding the {name_of(blob)} file of {len(blob):,} bytes ended its process "
                f"({exit_words(self._ended())}); the file is damaged, or memory is short."
            ) from None
        finally:
            if not self.usable:
                # Before the memory that it was granted is granted to another one.
                self._process.kill()
                self._ended()
        if found is None:
            raise ImageError(str(answer["error"]))
        return found

    def _ask(
        self, blob: bytes, job: dict[str, Any], reserved: Reservation, seconds: Callable[[int], float]
    ) -> dict[str, Any]:
        """Its answer about one photo; what it needs beside what is ``reserved`` is granted meanwhile."""
        os.pwrite(self._memory, blob, 0)
        self._send({**job, "granted": min(_first_grant(blob), reserved.size)})
        answer = self._receive(seconds(0))
        while (needed := answer.get("needed")) is not None:
            try:
                reserved.grow(needed, beside=_bytes_of(blob))
            except (ImageError, DeadlinePassed):
                self._send({"granted": 0})
                self._receive(seconds(0))
                self.usable = True
                raise
            self._send({"granted": needed})
            answer = self._receive(seconds(needed // _LEAST_PIXEL))
        return answer

    def end(self) -> None:
        """Kills it, whatever it does."""
        self._process.kill()
        # The kernel ends what it can; there is nothing else to do about what it can't.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._close()

    def forget(self) -> None:
        """In a process that was forked: lets go of it without ending it, as it belongs to the parent."""
        self._process.returncode = 0
        self._close()

    def _await_ready(self) -> None:
        if self._ready:
            return
        self.usable = False
        self._messages.settimeout(_START_SECONDS)
        try:
            said = self._messages.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            raise ServiceError(
                f"The process that decodes photos did not start within {_START_SECONDS:.0f} seconds."
            ) from None
        if said != b"ready":
            words = os.pread(self._said, _MOST_SAID, max(os.fstat(self._said).st_size - _MOST_SAID, 0))
            raise ServiceError(
                f"The process that decodes photos ended while starting ({exit_words(self._ended())}). "
                f"It said: {' '.join(words.decode(errors='replace').split())}"
            )
        self._ready = self.usable = True

    def _send(self, message: dict[str, Any]) -> None:
        self._messages.send(json.dumps(message).encode())

    def _receive(self, seconds: float) -> dict[str, Any]:
        """Its next message; raises TimeoutError, and EOFError or ConnectionError where it has ended."""
        self._messages.settimeout(seconds)
        message = self._messages.recv(MAX_MESSAGE_BYTES)
        if not message:
            raise EOFError
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _read(self, answer: dict[str, Any]) -> _Answer:
        pixels, picture = int(answer["pixels"]), int(answer["picture"])
        found = os.pread(self._memory, pixels + picture, 0)
        # By copies, so that nothing that the process does to the memory later can be seen.
        if min(pixels, picture) < 0 or not pixels + picture == len(found) <= MAX_ANSWER_BYTES:
            raise ImageError("Decoding the file gave no image of the size that was announced.")
        warning = answer["warning"]
        return _Answer(found[:pixels], found[pixels:], None if warning is None else str(warning))

    def _ended(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_END_SECONDS)
        return None

    def _close(self) -> None:
        self._messages.close()
        for number in (self._memory, self._said, self._lifeline):
            os.close(number)


def _first_grant(blob: bytes) -> int:
    """What the worker gets unasked; opening a file may copy it."""
    return FIRST_GRANT_BYTES + len(blob)


def _bytes_of(blob: bytes) -> int:
    """What a photo's file takes beside its decoding: it is in the shared memory and in the worker."""
    return 2 * len(blob)


def _job(blob: bytes, request: PhotoRequest) -> dict[str, Any]:
    return {
        "bytes": len(blob),
        "max_pixels": request.max_pixels,
        "short_side": request.short_side,
        "square": asdict(request.square),
        "thumbnail": request.thumbnail,
    }


def _picture_job(
    blob: bytes, max_pixels: int, *, side: int | None = None, preview: int | None = None
) -> dict[str, Any]:
    wanted: dict[str, Any] = {"short_side": preview, "square": None, "side": side, "preview": preview}
    return {"bytes": len(blob), "max_pixels": max_pixels, **wanted}


def decoder_environment() -> dict[str, str]:
    """The environment of a process that decodes: nothing but what Python and its libraries need."""
    return {**module_environment(), **_ENVIRONMENT}


_lock = threading.Lock()
_shared: DecodePool | None = None
_users = 0


@contextmanager
def shared_pool(memory: int = 0) -> Iterator[DecodePool]:
    """The pool that all parts of this process use, as long as one of them has it.

    ``memory`` is the budget's limit in bytes, as ``process_budget`` takes it.
    """
    global _shared, _users
    with _lock:
        if _shared is None:
            _shared = DecodePool(process_budget(memory))
        pool = _shared
        pool.budget = process_budget(memory)
        _users += 1
    try:
        yield pool
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _shared = None
        if _shared is not pool:
            pool.close()
