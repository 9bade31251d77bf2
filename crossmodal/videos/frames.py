"""Which frames of a video are worth finding: the first one of each scene, upright, as JPEGs.

This is what runs in a process of its own (``worker``), as the codecs are written in C and the files come from
anywhere. A scene is what looks alike: frames are compared by their colours in the quarters of the picture.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.errors import ImageError
from crossmodal.videos.colours import is_wide, to_srgb

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

__all__ = ["LEAST_SECONDS", "Choice", "KeyFrame", "choose_frames"]

# At most one moment in so many seconds.
LEAST_SECONDS = 2.0

# Cameras write a key frame, which is decoded by itself, each second or two. Where there are fewer than one in
# so many seconds, scenes may begin between them, and every frame is decoded.
_SPARSE_SECONDS = 4.0
# Of these, so many seconds apart are looked at.
_LOOK_SECONDS = 0.2

# How much of the colours in the quarters of a picture must be others, 0 to 1. The same scene with the noise
# of a camera stays below 0.1, a cut is above 0.4.
_CHANGE = 0.3
_BINS = 8
_SMALL_SIDE = 32

# A frame of which nearly all is darker says nothing (of 255; black in video is 16).
_DARK = 40
_NEARLY_ALL = 98

_LONG_SIDE = 1280
_QUALITY = 90

_UNIT = 1_000_000

# Codecs count pixels with sides that are multiples of 64 or so.
_ROUNDED_PIXELS = 1 << 22


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """The first frame of a scene: ``seconds`` from the beginning of the video, and a JPEG of it."""

    seconds: float
    jpeg: bytes


@dataclass(slots=True)
class Choice:
    """The frames that were chosen, and what is known of the video: upright size, duration and its tags.

    ``warning`` is a sentence on what could not be read.
    """

    frames: list[KeyFrame]
    width: int
    height: int
    duration: float | None
    tags: dict[str, str]
    warning: str | None = None


def choose_frames(path: str, demuxer: str, *, most: int, max_pixels: int, seconds: float) -> Choice:
    """At most ``most`` frames of the video at ``path``, and what its container says.

    Nothing but ``demuxer`` is tried, as others would open further files. After ``seconds`` the frames found
    so far are what there is. Raises ImageError where there is no frame at all.
    """
    import av

    try:
        # Codecs judge by it as well, each picture before there is memory for it: looking for the kinds of
        # streams decodes some, and what a container says of their size need not be so.
        options = {"max_pixels": str(max_pixels + _ROUNDED_PIXELS)}
        with av.open(path, format=demuxer, options=options, metadata_errors="replace") as container:
            return _choose(container, most, max_pixels, time.monotonic() + seconds)
    except av.FFmpegError as error:
        raise ImageError(f"The video cannot be read: {error.strerror}.") from None


def _choose(container: InputContainer, most: int, max_pixels: int, until: float) -> Choice:
    stream = next((each for each in container.streams.video if not _is_cover(each)), None)
    if stream is None:
        raise ImageError("The file has no pictures that move: it is sound alone.")
    if not stream.width * stream.height:
        raise ImageError(
            f"No picture of the video can be read, or they have more pixels than the limit, {max_pixels:,}. "
            "Allow more with --max-pixels."
        )
    if stream.width * stream.height > max_pixels:
        raise ImageError(
            f"The video has {stream.width} x {stream.height} pixels, and the limit is {max_pixels:,}. Allow "
            "more with --max-pixels."
        )
    stream.codec_context.options = {"max_pixels": str(max_pixels + _ROUNDED_PIXELS)}
    duration = _duration(container, stream)
    found = _Scenes(most, _aspect(stream))
    warning = found.read(container, stream, duration, until)
    frames = found.frames()
    if not frames:
        reason = warning or "It has none."
        raise ImageError(f"No picture of the video can be read. {reason}")
    tags = {str(name): str(value) for name, value in (*stream.metadata.items(), *container.metadata.items())}
    return Choice(frames, *found.size, duration or found.last or None, tags, warning)


def _is_cover(stream: VideoStream) -> bool:
    import av.stream

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _aspect(stream: VideoStream) -> float:
    """How much wider than high a pixel is, 1 where it isn't said or is nonsense."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if container.duration:
        return container.duration / _UNIT
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


class _Scenes:
    """The beginnings of scenes so far; never more than twice ``most``, however long the video is."""

    def __init__(self, most: int, aspect: float) -> None:
        self._most = most
        self._aspect = aspect
        self._apart = LEAST_SECONDS
        self._found: list[KeyFrame] = []
        self._dark: KeyFrame | None = None
        self._colours: NDArray[np.float32] | None = None
        self.last = 0.0
        self.size = (0, 0)

    def read(
        self, container: InputContainer, stream: VideoStream, duration: float | None, until: float
    ) -> str | None:
        """Looks at the key frames, or at all where these are few; returns a warning, or None."""
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = "NONKEY"
        widest = before = 0.0
        warning = None
        for seconds, frame in self._decoded(container, stream):
            if frame is None:
                warning = _cut_off(seconds)
                break
            widest, before = max(widest, seconds - before), seconds
            self._look(seconds, frame)
            if time.monotonic() > until:
                return _too_long(seconds)
        widest = max(widest, (duration or before) - before)
        if widest <= _SPARSE_SECONDS and (self._found or self._dark):
            return warning
        every = _Scenes(self._most, self._aspect)
        try:
            container.seek(0)
        except Exception:  # noqa: BLE001  (a damaged index; the key frames are what there is)
            return warning
        stream.codec_context.skip_frame = "DEFAULT"
        looked = -_LOOK_SECONDS
        for seconds, frame in every._decoded(container, stream):
            if frame is None:
                warning = _cut_off(seconds)
                break
            if seconds - looked >= _LOOK_SECONDS:
                looked = seconds
                every._look(seconds, frame)
            if time.monotonic() > until:
                warning = _too_long(seconds)
                break
        if len(every._found) >= len(self._found):
            self._found, self._dark, self.size = every._found, every._dark, every.size
        self.last = max(self.last, every.last)
        return warning

    def _decoded(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[float, VideoFrame | None]]:
        """The frames with their times; None for one where the file is broken, after which none comes."""
        import av

        start = float((stream.start_time or 0) * (stream.time_base or 0))
        try:
            for frame in container.decode(stream):
                if frame.time is not None:
                    seconds = max(frame.time - start, 0.0)
                    self.last = max(self.last, seconds)
                    yield seconds, frame
        except av.FFmpegError:
            yield self.last, None

    def _look(self, seconds: float, frame: VideoFrame) -> None:
        if self._found and seconds - self._found[-1].seconds < self._apart:
            return
        small = _small(frame)
        if np.percentile(small, _NEARLY_ALL) < _DARK:
            if self._dark is None:
                self._dark = self._picture(seconds, frame)
            return
        colours = _colours(small)
        if self._colours is not None and _difference(colours, self._colours) < _CHANGE:
            return
        self._colours = colours
        self._found.append(self._picture(seconds, frame))
        if len(self._found) > 2 * self._most:
            self._found = self._found[::2]
            self._apart *= 2

    def _picture(self, seconds: float, frame: VideoFrame) -> KeyFrame:
        picture = _upright(frame, self._aspect)
        if self.size == (0, 0):
            # In full, and not as it is kept.
            width, height = round(frame.width * self._aspect), frame.height
            self.size = (height, width) if round(frame.rotation / 90) % 2 else (width, height)
        return KeyFrame(round(seconds, 3), _jpeg(picture))

    def frames(self) -> list[KeyFrame]:
        """Those that stay: all, or so many of them evenly."""
        if not self._found:
            return [] if self._dark is None else [self._dark]
        if len(self._found) <= self._most:
            return self._found
        kept = np.linspace(0, len(self._found) - 1, self._most).round().astype(int)
        return [self._found[place] for place in dict.fromkeys(kept.tolist())]


def _cut_off(seconds: float) -> str:
    return f"The video can be read up to {seconds:.0f} seconds; the rest of it is damaged or missing."


def _too_long(seconds: float) -> str:
    return f"Only the first {seconds:.0f} seconds of the video were looked at: decoding takes too long."


def _small(frame: VideoFrame) -> NDArray[np.uint8]:
    small = frame.to_ndarray(format="rgb24", width=_SMALL_SIDE, height=_SMALL_SIDE)
    return np.asarray(small, np.uint8)


def _colours(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The shares of the bins of each channel in the quarters of a picture: float32 (4, 3, bins)."""
    half = _SMALL_SIDE // 2
    bins = (small // (256 // _BINS)).reshape(2, half, 2, half, 3).transpose(0, 2, 4, 1, 3)
    counts = (bins.reshape(4, 3, -1, 1) == np.arange(_BINS)).sum(axis=2)
    shares: NDArray[np.float32] = (counts / (half * half)).astype(np.float32)
    return shares


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The share of colours that are others, 0 to 1."""
    return float(np.abs(one - other).sum(axis=2).mean() / 2)


def _upright(frame: VideoFrame, aspect: float) -> NDArray[np.uint8]:
    """RGB (height, width, 3), at most so large as is kept, with square pixels."""
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, _LONG_SIDE / max(width, height))
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    pixels = np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height), np.uint8)
    if is_wide(frame.color_primaries, frame.color_trc):
        pixels = to_srgb(pixels, frame.color_primaries, frame.color_trc)
    # Degrees against the clock, in steps of a quarter.
    turned: NDArray[np.uint8] = np.rot90(pixels, round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(turned)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
