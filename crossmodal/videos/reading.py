"""A video on this machine: what is known of it, and its moments, read by a process of their own."""

from __future__ import annotations

import hashlib
import json
import os
import select
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from crossmodal.errors import DataError
from crossmodal.images.limits import MAX_PIXELS
from crossmodal.images.pool import decoder_environment
from crossmodal.limits import VIDEO
from crossmodal.processes import exit_words
from crossmodal.videos.formats import VideoFormat, how_to_read_videos, reads_videos, video_format

__all__ = ["Moment", "Video", "read_video"]

# What is decoded after that is what there is; the process has a little longer to say it.
_SECONDS = 600.0
_GRACE_SECONDS = 60.0

# All frames of a video together, as JPEGs.
_MOST_ANSWER = 256 << 20
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame: ``seconds`` from the beginning, and a JPEG of it."""

    seconds: float
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Video:
    """A video: its ``format``, its size in ``bytes``, the SHA-256 of its file, and its moments in order.

    ``width`` and ``height`` are upright, ``duration`` is in seconds, None where it isn't known; ``said`` is
    what its container says, ``warning`` a sentence on what could not be read.
    """

    format: VideoFormat
    bytes: int
    digest: str
    width: int
    height: int
    duration: float | None
    moments: tuple[Moment, ...]
    said: dict[str, str] = field(default_factory=dict)
    warning: str | None = None


def read_video(
    path: str,
    *,
    most: int,
    max_bytes: int = VIDEO.most,
    max_pixels: int = MAX_PIXELS,
    seconds: float = _SECONDS,
) -> Video:
    """The video in the file at the absolute ``path``, with at most ``most`` moments.

    Decoding ends after ``seconds``, with what there is until then. Raises DataError with a sentence that
    names the file where it is no video of a known format, has more bytes or pixels than may be, or cannot be
    read; bytes are judged before any of them is read, pixels before a picture is decoded.
    """
    if not reads_videos():
        raise DataError(f"{path} is a video. {how_to_read_videos()}")
    try:
        # Without waiting for who writes into a pipe.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    try:
        size = _checked_size(file, path, max_bytes)
        found = video_format(os.pread(file, 64, 0))
        if found is None:
            raise DataError(f"{path} is no video, although its name is that of one")
        digest = _digest(file, path, size)
        job = {"demuxer": found.demuxer, "most": most, "max_pixels": max_pixels, "seconds": seconds}
        said, frames = _ask(file, path, job)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(file)
    return Video(
        found,
        size,
        digest,
        int(said["width"]),
        int(said["height"]),
        said["duration"],
        tuple(frames),
        said["tags"],
        said["warning"],
    )


def _checked_size(file: int, path: str, max_bytes: int) -> int:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file")
    if status.st_size == 0:
        raise DataError(f"{path} is empty")
    if status.st_size > max_bytes:
        raise DataError(
            f"{path} has {status.st_size:,} bytes, and the limit for a video is {max_bytes:,}; allow more "
            "with --max-video-bytes, or cut it into parts"
        )
    return status.st_size


def _digest(file: int, path: str, size: int) -> str:
    with open(file, "rb", closefd=False) as whole:
        whole.seek(0)
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    if os.fstat(file).st_size != size:
        raise DataError(f"{path} changed while it was read: try again when it is complete")
    return digest


def _ask(file: int, path: str, job: dict[str, Any]) -> tuple[dict[str, Any], list[Moment]]:
    most_seconds = job["seconds"] + _GRACE_SECONDS
    # Nothing is ever written into it; it closes with this process.
    lifeline, held = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "crossmodal.videos.worker"),
                *(str(file), str(lifeline), json.dumps(job)),
            ],
            pass_fds=(file, lifeline),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=decoder_environment(),
            start_new_session=True,
        )
        os.close(lifeline)
        lifeline = -1
        with process:
            try:
                answer = _received(process, time.monotonic() + most_seconds)
            finally:
                process.kill()
    finally:
        os.close(held)
        if lifeline >= 0:
            os.close(lifeline)
    if answer is None:
        raise DataError(f"{path}: decoding the video was given up after {most_seconds:.0f} seconds")
    line, _, rest = answer.partition(b"\n")
    try:
        said = json.loads(line)
    except ValueError:
        raise DataError(
            f"{path}: decoding the video ended its process ({exit_words(process.returncode)}); "
            "the file is damaged, or memory is short"
        ) from None
    if "error" in said:
        raise DataError(f"{path}: {said['error']}")
    frames, start = [], 0
    for at, length in said["frames"]:
        frames.append(Moment(float(at), rest[start : start + length]))
        start += length
    if start != len(rest) or not frames:
        raise DataError(f"{path}: decoding the video gave no frames")
    return said, frames


def _received(process: subprocess.Popen[bytes], until: float) -> bytes | None:
    """All that the process says until it ends; None where that takes too long."""
    assert process.stdout is not None, "it was started with a pipe"
    parts: list[bytes] = []
    size = 0
    while (left := until - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            return None
        part = os.read(process.stdout.fileno(), _PIPE_BYTES)
        if not part:
            process.wait(max(until - time.monotonic(), 1.0))
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > _MOST_ANSWER:
            return b""
    return None
