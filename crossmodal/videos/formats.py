"""The one table of formats of videos, told apart by the first bytes of the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

from crossmodal.extras import EXTRAS, how_to_install

__all__ = [
    "PACKAGE",
    "VIDEO_EXTENSIONS",
    "VIDEO_FORMATS",
    "VIDEO_TYPES",
    "VideoFormat",
    "how_to_read_videos",
    "is_video_type",
    "looks_like_a_video",
    "reads_videos",
    "video_format",
    "video_type_by_name",
    "videos_sentence",
    "videos_table",
]

PACKAGE = "av"


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """A format: its ``name``, media type, the ``extensions`` of its files, and the ``demuxer`` that reads it.

    ``browsers`` says whether browsers play it, as far as they have the codec in it.
    """

    name: str
    mime_type: str
    extensions: tuple[str, ...]
    demuxer: str
    browsers: bool


VIDEO_FORMATS = (
    VideoFormat("MP4", "video/mp4", (".mp4", ".m4v"), "mov", browsers=True),
    VideoFormat("QuickTime", "video/quicktime", (".mov", ".qt"), "mov", browsers=True),
    VideoFormat("WebM", "video/webm", (".webm",), "matroska", browsers=True),
    VideoFormat("Matroska", "video/x-matroska", (".mkv",), "matroska", browsers=False),
    VideoFormat("AVI", "video/x-msvideo", (".avi",), "avi", browsers=False),
)
_BY_TYPE = {each.mime_type: each for each in VIDEO_FORMATS}
_BY_EXTENSION = {extension: each for each in VIDEO_FORMATS for extension in each.extensions}

VIDEO_TYPES = frozenset(_BY_TYPE)
VIDEO_EXTENSIONS = frozenset(_BY_EXTENSION)

# The atoms that a QuickTime file may start with that is older than "ftyp" (QuickTime File Format, Apple).
_OLD_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
# Brands of pictures in the same boxes.
_PICTURE_BRANDS = frozenset(
    {
        *(b"avif", b"avis", b"crx ", b"mif1", b"mif2", b"msf1", b"miaf"),
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    }
)
_EBML = b"\x1a\x45\xdf\xa3"


def looks_like_a_video(file_name: str) -> bool:
    """Whether the extension of ``file_name`` promises a video of a known format."""
    return os.path.splitext(file_name)[1].lower() in VIDEO_EXTENSIONS  # noqa: PTH122  (bare speed)


def video_type_by_name(file_name: str) -> str | None:
    """The media type that the extension of ``file_name`` promises; None where it promises no video."""
    found = _BY_EXTENSION.get(os.path.splitext(file_name)[1].lower())  # noqa: PTH122  (bare speed)
    return None if found is None else found.mime_type


def is_video_type(mime_type: str | None) -> bool:
    """Whether a media type is that of a format of videos."""
    return mime_type in VIDEO_TYPES


def video_format(head: bytes) -> VideoFormat | None:
    """The format by the first 64 bytes of a file; None where they are of no known video."""
    if head[4:8] == b"ftyp":
        if head[8:12] in _PICTURE_BRANDS:
            return None
        return _BY_TYPE["video/quicktime" if head[8:12] == b"qt  " else "video/mp4"]
    if head[4:8] in _OLD_ATOMS:
        return _BY_TYPE["video/quicktime"]
    if head[:4] == _EBML:
        return _BY_TYPE["video/webm" if b"webm" in head[:64] else "video/x-matroska"]
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _BY_TYPE["video/x-msvideo"]
    return None


def reads_videos() -> bool:
    """Whether the package that reads videos is installed."""
    return find_spec(PACKAGE) is not None


def videos_sentence() -> str:
    """The names of all formats and the extra that reads them."""
    extra, library = EXTRAS[PACKAGE]
    return f"{', '.join(each.name for each in VIDEO_FORMATS)}; with the extra {extra} ({library})"


def videos_table() -> str:
    """The formats as a Markdown table; ``docs/library.md`` holds it and a test compares."""
    lines = ["| format | endings | browsers play it |", "|---|---|---|"]
    for each in VIDEO_FORMATS:
        endings = " ".join(f"`{extension}`" for extension in each.extensions)
        lines.append(f"| {each.name} | {endings} | {'yes' if each.browsers else 'no'} |")
    return "\n".join(lines)


def how_to_read_videos() -> str:
    """The sentence that names the extra."""
    return f"Reading videos needs PyAV: {how_to_install(PACKAGE)}."
