"""How many pictures a file holds, by its structure alone: nothing is decoded, and only the first is shown."""

from __future__ import annotations

from crossmodal.images.limits import MAX_FRAMES
from crossmodal.images.signatures import sniff_mime_type, tiff_folders

__all__ = ["frame_count"]


def frame_count(blob: bytes) -> int:
    """The frames of an animated GIF, PNG or WebP, or the pages of a TIFF; 1 for any other file.

    At most ``MAX_FRAMES``; a damaged file has those that come before the damage, and at least one.
    """
    count = _COUNTS.get(sniff_mime_type(blob) or "")
    return 1 if count is None else min(max(count(blob), 1), MAX_FRAMES)


def _gif_frames(blob: bytes) -> int:
    """Its image descriptors; see "Graphics Interchange Format, version 89a", 18 to 26."""
    frames, place = 0, 13 + _colour_bytes(blob[10:11])
    while frames < MAX_FRAMES:
        kind = blob[place : place + 1]
        if kind == b",":
            frames += 1
            place += 11 + _colour_bytes(blob[place + 9 : place + 10])
        elif kind == b"!":
            place += 2
        else:
            break
        while size := int.from_bytes(blob[place : place + 1]):
            place += size + 1
        place += 1
    return frames


def _colour_bytes(flags: bytes) -> int:
    """The size of the table of colours that the packed ``flags`` of a GIF announce."""
    value = int.from_bytes(flags)
    return 3 << (value & 7) + 1 if value & 0x80 else 0


def _png_frames(blob: bytes) -> int:
    """What the chunk acTL says, which stands before the pixels (PNG, third edition, 11.3.6.1)."""
    place = 8
    while (kind := blob[place + 4 : place + 8]) and kind not in (b"IDAT", b"IEND"):
        if kind == b"acTL":
            return int.from_bytes(blob[place + 8 : place + 12])
        place += 12 + int.from_bytes(blob[place : place + 4])
    return 1


def _webp_frames(blob: bytes) -> int:
    """Its ANMF chunks (RFC 9649, 2.7)."""
    frames, place = 0, 12
    while (kind := blob[place : place + 4]) and frames < MAX_FRAMES:
        frames += kind == b"ANMF"
        size = int.from_bytes(blob[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return frames


def _tiff_pages(blob: bytes) -> int:
    return sum(folder.is_page for folder in tiff_folders(blob, MAX_FRAMES))


_COUNTS = {
    "image/gif": _gif_frames,
    "image/png": _png_frames,
    "image/webp": _webp_frames,
    "image/tiff": _tiff_pages,
}
