"""Writes the corpus that fuzzing starts from: ``python -m tests.fuzz.corpus``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

__all__ = ["CORPUS", "corpus_of"]

CORPUS = Path(__file__).with_name("corpus")

_SEARCHES = (
    b'{"text": "a dog", "top_k": 5}',
    b'{"terms": [{"text": "dog"}, {"image": "id:42", "weight": 0.5}, {"id": "x", "weight": -1}]}',
    b'{"queries": [{"expression": "dog - snow"}, {"like": ["a"], "unlike": ["b"]}], "modality": "both"}',
    b'{"image": "data:image/png;base64,iVBORw0KGgo=", "min_score": 0.5, "return": ["tags"]}',
    b'{"vector": [0.5, -1e3, 2], "kind": "image"}',
    b'{"image": "upload:0", "filter": {"a": {"$gte": 1}}, "hybrid": true, "group_duplicates": false}',
)
_EMBEDDINGS = (
    b'{"input": ["a dog", "data:image/png;base64,iVBORw0KGgo="], "dimensions": 4, "user": "me"}',
    b'{"input": "a dog", "model": "vse", "encoding_format": "base64"}',
)
_LEGACY = (
    b'\0{"data": ["a dog", "data:image/png;base64,AAAA"], "top_k": 5, "mode": "search"}',
    b'\0{"data": [{"text": "a", "id": "1", "tags": {"a": 1}}], "parameters": {"top_k": 3}}',
    b'\x01{"docs": [{"uri": "data:text/plain,a", "mime_type": "text/plain"}], "request_id": "x"}',
    b'\x03{"ids": ["a", "b"]}',
    b'\x04{"exec_endpoint": "/search", "request_id": "x", "data": [{}], "parameters": {"envelope": 2}}',
    b'\x04{"exec_endpoint": "/search", "data": {"docs": [{"blob": "AAAA", "modality": "image"}]}}',
    b'\x04{"data": [{"text": "a", "matches": [{"text": "b", "tags": {"c": 1}}]}], "execEndpoint": "/rank"}',
    b'\x04{"data": [{"blob": "/9j/4A=="}, {"uri": "data:,a"}], "header": {"execEndpoint": "/encode/vse"}}',
)
_LINES = (
    b'{"id": "a", "text": "a dog", "tags": {"place": "harbour", "year": 2019, "more": [1, "x", true]}}',
    b'{"image": "data:image/png;base64,iVBORw0KGgo=", "captions": ["one", "two"]}',
)
_METADATA = (b'{"a.jpg": {"captions": ["x"], "tags": {"a": 1}, "id": "1"}, "*": {"tags": {"b": "c"}}}',)
_FORM = (
    b'--line\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}\r\n'
    b'--line\r\nContent-Disposition: form-data; name="file"; filename="a%22.jpg"\r\n'
    b"Content-Type: image/jpeg\r\nContent-Transfer-Encoding: binary\r\n\r\nphoto\r\n--line--\r\n",
)
_FILTERS = (
    b'{"place": "harbour", "year": {"$gte": 2019, "$lt": 2021.5}}',
    b'{"$or": [{"a": {"$in": [1, "x", true]}}, {"$not": {"b": {"$exists": false}}}]}',
    b'{"$and": [{"a.b": {"$nin": []}}, {"modality": "image"}, {"c": {"$ne": null}}]}',
    b'{"\\"": {"$eq": -0.0}, "": 1e300}',
)
_EXPRESSIONS = (
    b"dog + 0.5*id:42 - snow",
    b'"a + b" - 2*"say \\"x\\" \\\\"',
    b'id:"a b" + t-shirt - .5*rock-n-roll',
    "grün + 1e0*猫 - \u00a0x".encode(),
    b"\xed\xa0\x80 - a",
)
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    b' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmp:Rating="4" exif:GPSLatitude="43,42.5N"'
    b' exif:GPSLongitude="7,15,30E"><dc:subject><rdf:Bag><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
_IPTC = (
    b"\x1c\x02\x05\0\x03abc\x1c\x02\x37\0\x0820180506\x1c\x02\x3c\0\x0b070809+0100\x1c\x02\x19\0\x02\xff\xfe"
)
# The first byte says which tool, and from 0x80 on that places are hidden.
_TOOLS = (
    b'\0{"text": "a dog", "top_k": 5, "offset": 3, "min_score": 0.5, "hybrid": true, "sort": "-taken"}',
    b'\x01{"text": "a dog", "filter": {"year": {"$gte": 2019}, "$or": [{"a": 1}]}, "recognise": false}',
    b'\x82{"id": "x", "modality": "both", "filter": {"location": {"$near": [1, 2], "$within_km": 3}}}',
    b'\x03{"id": "42"}',
    b"\x04{}",
)
_METADATA_TEXTS = (
    b"X" + _XMP,
    b'J{"photoTakenTime": {"timestamp": "1562236496"}, "description": "pier", "people": [{"name": "A"}],'
    b' "geoData": {"latitude": 50.1, "longitude": -5.5}}',
    b"NIMG_20190704_123456.jpg",
    b"NScreenshot 2019-07-04 at 3.12.45 PM(1).png",
)


def corpus_of(target: str) -> Iterator[bytes]:
    """The inputs of a target."""
    if target == "images":
        yield from _photos()
    elif target == "metadata":
        yield from _METADATA_TEXTS
    elif target == "bodies":
        for kind, contents in (
            (b"S", _SEARCHES),
            (b"E", _EMBEDDINGS),
            (b"L", _LEGACY),
            (b"N", _LINES),
            (b"M", _METADATA),
            (b"F", _FORM),
        ):
            yield from (kind + content for content in contents)
    else:
        yield from {"filters": _FILTERS, "expressions": _EXPRESSIONS, "tools": _TOOLS}[target]


def _photos() -> Iterator[bytes]:
    gradient = Image.linear_gradient("L").resize((12, 9))
    for mode, kind, options in (
        ("RGB", "JPEG", {"quality": 20}),
        ("CMYK", "JPEG", {"quality": 20, "progressive": True}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("P", "PNG", {"bits": 4, "transparency": 1}),
        ("P", "GIF", {"save_all": True, "append_images": [gradient.rotate(90).resize((12, 9))]}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "WEBP", {"quality": 10}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("L", "BMP", {}),
        ("RGB", "ICO", {"sizes": [(8, 8)]}),
        ("RGB", "PPM", {}),
    ):
        file = BytesIO()
        made = gradient.convert(mode)
        exif = Image.Exif()
        # Orientation, so that photos are turned.
        exif[0x0112] = 6
        if kind in ("JPEG", "PNG", "WEBP"):
            options = {**options, "exif": exif}
        made.save(file, kind, **options)
        yield file.getvalue()


def _described_photos() -> Iterator[bytes]:
    """Photos with metadata, whose bytes differ with the codecs that wrote them."""
    exif = Image.Exif()
    exif.update(
        {0x010F: "NIKON CORPORATION", 0x0110: "NIKON D90", 0x0112: 6, 0x9C9E: "a;b".encode("utf-16-le")}
    )
    exif.get_ifd(0x8769).update({0x9003: "2019:07:04 12:34:56", 0x829A: 1 / 250, 0x9286: b"ASCII\0\0\0pier"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "W", 4: (2.0, 17.0, 40.2)})
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(_IPTC).to_bytes(4) + _IPTC
    segment = b"\xff\xed" + (len(resource) + 2).to_bytes(2) + resource
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        file = BytesIO()
        Image.new("RGB", (4, 3)).save(file, kind, exif=exif, xmp=_XMP)
        yield b"P" + file.getvalue()
    yield b"P\xff\xd8" + segment + b"\xff\xd9"
    yield b"P" + exif.tobytes().removeprefix(b"Exif\0\0")


def main() -> None:
    """Writes what is missing; what fuzzing found before stays."""
    for target in ("images", "bodies", "filters", "expressions", "metadata", "tools"):
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for content in (*corpus_of(target), *(_described_photos() if target == "metadata" else ())):
            (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    main()
