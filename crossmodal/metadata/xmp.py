"""XMP (ISO 16684-1), in files and beside them: what photo programs say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from crossmodal.metadata.dates import from_iso
from crossmodal.metadata.found import Found, coordinates, rounded, text_of, texts_of

__all__ = ["read_xmp"]

_MAX_DEPTH = 32
# A packet of a photo with many edits has some thousands.
_MAX_ELEMENTS = 50_000

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "MP": "http://ns.microsoft.com/photo/1.2/",
}
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"

# "52,30.5N" or "52,30,30N".
_DEGREES = re.compile(r"(\d{1,3})(?:,(\d{1,2}(?:\.\d+)?))?(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])")
_RATIO = re.compile(r"(\d+(?:\.\d+)?)(?:/(\d+(?:\.\d+)?))?")


def read_xmp(block: bytes) -> Found:
    """What a packet says; raises ValueError where it is no XML, declares entities or is too deep."""
    properties = list(_properties(_parsed(block)))

    def first(name: str) -> Element | str | None:
        wanted = _named(name)
        return next((value for key, value in properties if key == wanted), None)

    found = Found()
    for name in ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate"):
        found.say("taken", from_iso(_text(first(name))))
    found.say("title", _text(first("dc:title")))
    found.say("title", _text(first("photoshop:Headline")))
    found.say("description", _text(first("dc:description")))
    found.say("keywords", _keywords(first))
    found.say("people", _people(first))
    found.say("rating", _rating(_text(first("xmp:Rating"))))
    found.say("city", _text(first("photoshop:City")))
    found.say("region", _text(first("photoshop:State")))
    found.say("country", _text(first("photoshop:Country")))
    found.say("lens", _text(first("exifEX:LensModel")) or _text(first("aux:Lens")))
    found.place(
        coordinates(_degrees(_text(first("exif:GPSLatitude"))), _degrees(_text(first("exif:GPSLongitude"))))
    )
    return found


def _parsed(block: bytes) -> Element:
    """The elements of a packet. Expat is stopped at declarations of types and entities."""
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it has more than {_MAX_DEPTH} elements inside each other")
        if elements > _MAX_ELEMENTS:
            raise ValueError(f"it has more than {_MAX_ELEMENTS:,} elements")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*declared: object) -> None:
        raise ValueError("it declares a document type, which XMP has no use for")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        # Some programs end the packet with zeros.
        parser.Parse(block.strip(b"\0 \t\r\n"), True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise ValueError(f"it is no XML: {error}") from error


def _properties(root: Element) -> Iterator[tuple[str, Element | str]]:
    """The properties of the photo, which are elements or attributes of rdf:Description."""
    described = f"{_RDF} Description"
    for rdf in root.iter(f"{_RDF} RDF"):
        for description in rdf:
            if description.tag == described:
                yield from description.items()
                yield from ((child.tag, child) for child in description)


def _named(name: str) -> str:
    space, _, local = name.partition(":")
    return f"{_SPACES[space]} {local}"


def _entries(value: Element | str | None) -> list[Element]:
    """The elements of a list."""
    return [] if value is None or isinstance(value, str) else list(value.iter(f"{_RDF} li"))


def _text(value: Element | str | None) -> str | None:
    """Text, of several languages the one for all (x-default), else the first."""
    if value is None or isinstance(value, str):
        return text_of(value)
    entries = _entries(value)
    if not entries:
        return text_of("".join(value.itertext()))
    chosen = next(
        (entry for entry in entries if entry.get(_LANGUAGE) == "x-default" and entry.text), entries[0]
    )
    return text_of("".join(chosen.itertext()))


def _texts(value: Element | str | None) -> list[str]:
    return texts_of("".join(entry.itertext()) for entry in _entries(value))


def _keywords(first: Any) -> list[str]:
    """The keywords, and each part of those that are inside each other."""
    keywords = _texts(first("dc:subject"))
    for name, between in (("lr:hierarchicalSubject", "|"), ("digiKam:TagsList", "/")):
        keywords += texts_of(part for path in _texts(first(name)) for part in path.split(between))
    return keywords


def _people(first: Any) -> list[str]:
    """Who is in the photo, by lists and by the names of regions that are faces."""
    people = _texts(first("Iptc4xmpExt:PersonInImage"))
    for region in _structures(first("mwg-rs:Regions"), "mwg-rs:Name"):
        if (region.get(_named("mwg-rs:Type")) or "Face") == "Face":
            people += texts_of([region[_named("mwg-rs:Name")]])
    for region in _structures(first("MP:RegionInfo"), "MPReg:PersonDisplayName"):
        people += texts_of([region[_named("MPReg:PersonDisplayName")]])
    return people


def _structures(value: Element | str | None, having: str) -> Iterator[dict[str, str]]:
    """The structures inside ``value`` that have a field of that name, whether as attribute or as element."""
    if value is None or isinstance(value, str):
        return
    for element in value.iter():
        fields = dict(element.items()) | {child.tag: child.text or "" for child in element}
        if _named(having) in fields:
            yield fields


def _rating(value: str | None) -> float | int | None:
    """Stars, -1 for a photo that was rejected; 0 is none."""
    if value == "-1":
        return -1
    stars = rounded(value)
    return stars if stars is not None and stars <= 5 else None


def _degrees(value: str | None) -> float | None:
    found = _DEGREES.fullmatch(value or "")
    if found is None:
        return None
    degrees = float(found[1]) + float(found[2] or 0) / 60 + float(found[3] or 0) / 3600
    return -degrees if found[4] in "SW" else degrees
