"""Where in the file of a video it is written where it was made."""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from crossmodal.metadata.avi import avi_parts
from crossmodal.metadata.locations import names_a_place
from crossmodal.metadata.matroska import matroska_parts
from crossmodal.metadata.mp4 import mp4_parts
from crossmodal.metadata.video_parts import OpenVideo

__all__ = ["Span", "are_spans_known", "blanked", "location_spans"]

# From and up to: offsets in a file.
Span = tuple[int, int]

# A video that says more is a log of places, or is made to take memory.
_MOST_SPANS = 1 << 14
# Of so many videos it is remembered what was found.
_VIDEOS = 64

# ISO 6709 as text (annex H), which should end with a solidus. What has none, and any other number of that
# form, is blanked too: in an index there is little else that is written so.
_ISO_6709 = re.compile(rb"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?(?:[+-]\d+(?:\.\d+)?)?(?:CRS[\w:]*)?/?")
# 3GPP TS 26.244, 8.11: the box ``loci`` of a video of a telephone.
_LOCI = re.compile(rb"(?s:(.{4})loci)")
# What may say a place in a way of its own. Tracks of measurements, in which each second may have one: GoPro,
# Google's CAMM, Apple, Sony, dashboard cameras. A packed index. The file of a photo: a cover, or each frame
# of some codecs.
_TELLS = re.compile(rb"gpmd|camm|mebx|rtmd|gps |cmov|covr|Exif\0\0|eXIf|(?i:jpeg|mjp[abg]|[il]jpg|mpng|png )")
# The names that programs give to metadata in QuickTime and MP4 (QuickTime File Format, "Metadata"; the box
# ``----`` of iTunes), those of places, and of these the ones that stand for ISO 6709.
_KEY = re.compile(rb"(?:mdta|name\0\0\0\0)([\x20-\x7e]+)")
_PLACE_KEY = re.compile(rb"(?i)locat|gps|l(?:at|ong)itude|coordinate|geo|place|city|state|country|address")
_COORDINATES_KEY = re.compile(rb"location(?:\.ISO6709|-\w{3})?$")
# The kinds of tracks (ISO 14496-12, 8.4.3) that are seen or heard, or count frames. Others, such as the text
# of a drone, may say a place each second. QuickTime has a handler of data besides, ``dhlr``.
_HANDLER = re.compile(rb"(?s:hdlr.{4}(.{4})(.{4}))")
_HARMLESS_TRACKS = frozenset({b"vide", b"soun", b"tmcd"})
_IN_QUICKTIME_DATA = b"dhlr"
# Of what tells of the whole, in a box of metadata.
_HARMLESS_METADATA = frozenset({b"mdir", b"mdta"})
_READERS = {
    "video/mp4": mp4_parts,
    "video/quicktime": mp4_parts,
    "video/x-msvideo": avi_parts,
    "video/x-matroska": matroska_parts,
    "video/webm": matroska_parts,
}


@dataclass(frozen=True, slots=True)
class _File:
    """What tells a file from others, and from itself when it was another one."""

    device: int
    inode: int
    size: int
    changed: int
    mime_type: str


_known: OrderedDict[_File, Sequence[Span] | None] = OrderedDict()
_changing = threading.Lock()


def location_spans(
    descriptor: int, mime_type: str, is_given_up: Callable[[], bool] = lambda: False
) -> Sequence[Span] | None:
    """The bytes of an open file that say where it was made, to be overwritten by blanks, in order.

    None where that cannot be taken out for sure. It takes up to the time of reading the file; what was found
    is remembered for as long as the file has the same size and time. Raises ServiceError where meanwhile
    ``is_given_up`` says that nobody waits.
    """
    file = _described(descriptor, mime_type)
    with _changing:
        if file in _known:
            _known.move_to_end(file)
            return _known[file]
    found = _spans(OpenVideo(descriptor, file.size, is_given_up), mime_type)
    with _changing:
        _known[file] = found
        if len(_known) > _VIDEOS:
            _known.popitem(last=False)
    return found


def are_spans_known(descriptor: int, mime_type: str) -> bool:
    """Whether ``location_spans`` answers at once."""
    with _changing:
        return _described(descriptor, mime_type) in _known


def _described(descriptor: int, mime_type: str) -> _File:
    status = os.fstat(descriptor)
    return _File(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, mime_type)


def _spans(file: OpenVideo, mime_type: str) -> Sequence[Span] | None:
    if mime_type not in _READERS:
        return None
    spans: list[Span] = []
    try:
        for part in _READERS[mime_type](file):
            if part.needed:
                spans += _said_in(file.read(part.start, part.end), part.start)
            elif part.start < part.end:
                spans.append((part.start, part.end))
            if len(spans) > _MOST_SPANS:
                return None
    except ValueError:
        return None
    return _apart(spans)


def _said_in(part: bytes, start: int) -> Iterator[Span]:
    if names_a_place(part) or _TELLS.search(part):
        raise ValueError("it may say a place in another way")
    keys = [key[1] for key in _KEY.finditer(part) if _PLACE_KEY.search(key[1])]
    if not all(map(_COORDINATES_KEY.search, keys)) or len(keys) > len(_ISO_6709.findall(part)):
        raise ValueError("it names a place")
    if not all(map(_is_harmless, _HANDLER.finditer(part))):
        raise ValueError("it has a track that is neither seen nor heard")
    for place in _ISO_6709.finditer(part):
        yield start + place.start(), start + place.end()
    for box in _LOCI.finditer(part):
        length = int.from_bytes(box[1])
        yield start + box.end(), start + min(box.start() + length, len(part))


def _apart(spans: list[Span]) -> Sequence[Span]:
    """The same bytes, in order and none of them twice."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def blanked(part: bytes, start: int, spans: Sequence[Span]) -> bytes:
    """The ``part`` of a file that begins at ``start``, with blanks for what of it lies in ``spans``."""
    written, end = bytearray(part), start + len(part)
    # All before this one end before the part.
    at = max(bisect_right(spans, (start, end)) - 1, 0)
    while at < len(spans) and spans[at][0] < end:
        first, last = spans[at]
        low, high = max(first, start) - start, min(last, end) - start
        if low < high:
            written[low:high] = b" " * (high - low)
        at += 1
    return bytes(written)


def _is_harmless(handler: re.Match[bytes]) -> bool:
    group, kind = handler.groups()
    return group == _IN_QUICKTIME_DATA or kind in _HARMLESS_TRACKS or kind in _HARMLESS_METADATA
