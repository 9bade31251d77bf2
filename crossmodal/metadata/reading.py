"""From a photo's bytes, its sidecars and its name to tags and captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from crossmodal.images.formats import name_of
from crossmodal.images.frames import frame_count
from crossmodal.metadata.containers import MAX_BLOCK_BYTES, Blocks, read_blocks
from crossmodal.metadata.dates import from_exif, from_file_time, from_name, same_moment
from crossmodal.metadata.exif import Exif, read_exif
from crossmodal.metadata.fields import LATITUDE, LONGITUDE
from crossmodal.metadata.found import Found, text_of
from crossmodal.metadata.iptc import read_iptc
from crossmodal.metadata.places import add_places
from crossmodal.metadata.quicktime import read_container
from crossmodal.metadata.sidecars import MAX_SIDECAR_BYTES, read_takeout
from crossmodal.metadata.xmp import read_xmp
from crossmodal.records import FILE_ORIGIN, TEXT, Record, caption_id, tags_beyond_limits
from crossmodal.videos.reading import Video

__all__ = ["Caption", "Metadata", "read_metadata", "read_video_metadata"]

# Folders inside each other, each of which is a value.
_MAX_FOLDERS = 64

# EXIF orientations at which width and height change places.
_SIDEWAYS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Caption:
    """What a photo's title or description says: one line of at most 2,000 characters."""

    text: str
    kind: Literal["title", "description"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a photo: ``tags`` by the names of ``FIELDS``, captions, and sentences as warnings."""

    tags: dict[str, Any] = field(default_factory=dict)
    captions: list[Caption] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def caption_records(self, photo: str, uri: str | None = None) -> list[Record]:
        """The captions of the photo with that id that its own file gives; their tags say so."""
        return [
            Record(
                id=caption_id(photo, caption.text),
                modality=TEXT,
                text=caption.text,
                uri=uri,
                mime_type="text/plain",
                photo_id=photo,
                metadata={"caption_from": caption.kind},
                origin=FILE_ORIGIN,
            ).hashed()
            for caption in self.captions
        ]


def read_metadata(
    content: bytes,
    *,
    name: str = "",
    folder: str = "",
    sidecars: Mapping[str, bytes] | None = None,
    modified: float | None = None,
) -> Metadata:
    """What is known of the photo whose file has the bytes ``content``.

    ``name`` is the file's name, ``folder`` the path of its folder from the root (``2019/italy``, empty for
    the root itself), ``sidecars`` the bytes of those files that ``find_sidecars`` names, by their names and
    in its order, and ``modified`` the time of the file's last change in seconds since 1970. What is empty or
    None is not known, as of an upload. Sidecars count before what is in the file, that before the file's
    name, and that before its time. Coordinates get the names of their places, where the extra is installed.
    Raises nothing for any bytes.
    """
    warnings: list[str] = []
    beside = [_sidecar(named, block, warnings) for named, block in (sidecars or {}).items()]
    blocks = read_blocks(content)
    exif = _exif(content, blocks)
    warnings += blocks.warnings + exif.warnings
    xmp = _found("XMP", read_xmp, blocks.xmp or exif.xmp, warnings)
    iptc = _found("IPTC", read_iptc, blocks.iptc or exif.iptc, warnings)
    words = _png_words(blocks)
    tags = Found()
    _say_taken(tags, beside, exif.found, xmp, iptc, words, name, modified)
    # A camera knows best where it was, and photo programs what people wrote.
    for source in (*beside, exif.found, xmp):
        if LATITUDE in source:
            tags.place((source[LATITUDE], source[LONGITUDE]))
    for source in (*beside, xmp, iptc, exif.found, words):
        for tag, value in source.items():
            if tag not in ("taken", LATITUDE, LONGITUDE):
                tags.say(tag, value)
    kind = name_of(content)
    _say_file(tags, name, folder, None if kind == "image" else kind, len(content), _upright(blocks, exif))
    if (frames := frame_count(content)) > 1:
        tags["frames"] = frames
    return _completed(tags, warnings)


def read_video_metadata(
    video: Video,
    *,
    name: str = "",
    folder: str = "",
    sidecars: Mapping[str, bytes] | None = None,
    modified: float | None = None,
) -> Metadata:
    """What is known of a video, whose container says what the camera would; otherwise as ``read_metadata``.

    ``time_seconds`` is where its first moment begins.
    """
    warnings: list[str] = []
    beside = [_sidecar(named, block, warnings) for named, block in (sidecars or {}).items()]
    said = read_container(video.said)
    if (moment := _named_in_local_time(said.get("taken"), name, video.duration)) is not None:
        said["taken"] = moment
    tags = Found()
    _say_taken(tags, beside, said, Found(), Found(), Found(), name, modified)
    for source in (*beside, said):
        if LATITUDE in source:
            tags.place((source[LATITUDE], source[LONGITUDE]))
        for tag, value in source.items():
            if tag not in ("taken", LATITUDE, LONGITUDE):
                tags.say(tag, value)
    _say_file(tags, name, folder, video.format.name, video.bytes, (video.width, video.height))
    tags.say("duration_seconds", None if video.duration is None else round(video.duration, 3))
    tags["moments"] = len(video.moments)
    tags["time_seconds"] = video.moments[0].seconds
    return _completed(tags, warnings)


def _named_in_local_time(taken: str | None, name: str, duration: float | None) -> str | None:
    """The local time in the name of a file where its container has the same moment in UTC, as most write it.

    Some write when the video ended.
    """
    named = from_name(name)
    if taken is None or named is None or "T" not in named or datetime.fromisoformat(named).tzinfo:
        return None
    ended = datetime.fromisoformat(taken)
    if ended.utcoffset() != timedelta(0):
        return None
    begins = (ended, ended - timedelta(seconds=round(duration or 0)))
    return named if any(same_moment(each.isoformat(), named) for each in begins) else None


def _completed(tags: Found, warnings: list[str]) -> Metadata:
    """With the names of places, and what of it is a caption."""
    add_places(tags)
    _shorten(tags, warnings)
    captions = [
        Caption(tags[kind], kind)
        for kind in ("title", "description")
        if kind in tags and not (kind == "description" and tags[kind] == tags.get("title"))
    ]
    return Metadata(dict(tags), captions, warnings)


def _sidecar(name: str, block: bytes, warnings: list[str]) -> Found:
    if len(block) > MAX_SIDECAR_BYTES:
        warnings.append(
            f"The sidecar {name} has {len(block):,} bytes and is not read; "
            f"the limit is {MAX_SIDECAR_BYTES:,}."
        )
        return Found()
    read = read_takeout if name.lower().endswith(".json") else read_xmp
    return _found(f"The sidecar {name}", read, block, warnings)


def _found(what: str, read: Callable[[bytes], Found], block: bytes | None, warnings: list[str]) -> Found:
    if not block or len(block) > MAX_BLOCK_BYTES:
        return Found()
    try:
        return read(block)
    except ValueError as error:
        named = what if what.startswith("The ") else f"Its {what}"
        warnings.append(f"{named} cannot be read: {error}.")
        return Found()


def _exif(content: bytes, blocks: Blocks) -> Exif:
    if blocks.whole:
        return read_exif(content, whole=True)
    if blocks.exif is None:
        return Exif()
    # What stands apart is of a raw file, whose first directory says how large its picture is.
    apart = blocks.camera is not None
    return read_exif(blocks.exif, whole=apart, camera=blocks.camera, place=blocks.place)


def _png_words(blocks: Blocks) -> Found:
    words = Found()
    words.say("title", text_of(blocks.texts.get("Title")))
    for name in ("Description", "Comment"):
        words.say("description", text_of(blocks.texts.get(name)))
    words.say("taken", from_exif(blocks.texts.get("Creation Time")))
    return words


def _say_taken(
    tags: Found,
    beside: list[Found],
    exif: Found,
    xmp: Found,
    iptc: Found,
    words: Found,
    name: str,
    modified: float | None,
) -> None:
    """When it was taken, and what said so."""
    camera = exif.get("taken")
    said = [(source["taken"], "sidecar") for source in beside if "taken" in source]
    if said and camera and same_moment(said[0][0], camera):
        # The same in another zone, as Google Takeout writes it: the camera's is the local time.
        said = []
    said += [
        (source["taken"], by)
        for source, by in ((exif, "camera"), (xmp, "xmp"), (iptc, "iptc"), (words, "xmp"))
        if "taken" in source
    ]
    for moment, by in (
        *said,
        (from_name(name), "file name"),
        (None if modified is None else from_file_time(modified), "file time"),
    ):
        if moment:
            tags["taken"], tags["taken_from"] = moment, by
            tags["year"], tags["month"] = int(moment[:4]), int(moment[5:7])
            return


def _upright(blocks: Blocks, exif: Exif) -> tuple[int, int] | None:
    size = blocks.size or exif.size
    turned = exif.orientation in _SIDEWAYS if blocks.turned is None else blocks.turned
    return (size[1], size[0]) if size and turned else size


def _say_file(
    tags: Found, name: str, folder: str, kind: str | None, bytes: int, size: tuple[int, int] | None
) -> None:
    parts = [part for part in folder.split("/") if part][:_MAX_FOLDERS]
    tags.say("folder", ["/".join(parts[: place + 1]) for place in range(len(parts))])
    tags.say("file", name)
    tags.say("format", kind)
    if size is not None and all(size):
        tags["width"], tags["height"] = size
        width, height = size
        tags["orientation"] = "square" if width == height else "landscape" if width > height else "portrait"
    tags["bytes"] = bytes


def _shorten(tags: Found, warnings: list[str]) -> None:
    """Leave out long tags until the limits allow the rest."""
    for name in ("keywords", "people", "folder", "description"):
        beyond = tags_beyond_limits(tags, "The tags")
        if beyond is None:
            return
        if name in tags:
            warnings.append(f"{beyond.partition('.')[0]}; {name} is left out.")
            del tags[name]
