"""A damaged JPEG or PNG is read as far as it goes, with a warning, and refused with less than half of it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from decoded_photos import WANTED, chunk, parts, reference, small_pool
from photos import encoded, toy_photo
from PIL import Image

from crossmodal.errors import ImageError
from crossmodal.images import decode_image, decode_reduced, thumbnail_of
from crossmodal.images.pool import DecodePool


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with small_pool() as made:
        yield made


@pytest.mark.parametrize("kind", ["iTXt", "zTXt", "iCCP", "tEXt"])
def test_a_png_with_a_long_text_is_read(kind: str, pool: DecodePool) -> None:
    long = b"x" * (2 << 20)
    data = {
        "tEXt": b"Comment\0" + long,
        "zTXt": b"Comment\0\0" + zlib.compress(long),
        "iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(long),
        "iCCP": b"wide\0\0" + zlib.compress(long),
    }[kind]
    plain = encoded(reference(), "PNG")
    blob = plain[:33] + chunk(kind.encode(), data) + plain[33:]
    np.testing.assert_array_equal(decode_image(blob), np.asarray(reference()))
    warning = pool.decode(blob, WANTED).warning
    assert warning is None if kind == "tEXt" else "all of the photo could be read" in str(warning)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("CMYK", {}), ("PNG", {"interlaced": True})],
)
def test_a_photo_that_is_cut_off_is_shown_as_far_as_it_goes(
    kind: str, options: dict[str, object], pool: DecodePool
) -> None:
    photo = toy_photo().resize((480, 320))
    interlaced = bool(options.pop("interlaced", False))
    if interlaced:
        whole = interlaced_png(photo)
    else:
        image = photo.convert("CMYK") if kind == "CMYK" else photo
        whole = encoded(image, "PNG" if kind == "PNG" else "JPEG", **options)
    pixels = decode_image(whole)
    cut = whole[: int(len(whole) * 0.9)]
    found = decode_reduced(cut, short_side=320)
    assert re.search(
        r"is damaged or cut off \(.*\); (\d\d%|all) of the photo could be read\.", found.warning or ""
    )
    assert found.pixels.shape == pixels.shape
    seen = 200 if not (interlaced or options) else 0
    np.testing.assert_array_equal(found.pixels[:seen], pixels[:seen])
    assert np.abs(parts(found.pixels)[:2] - parts(pixels)[:2]).max() < 40
    if seen:
        np.testing.assert_allclose(found.pixels[-1], 128, atol=1)
    pooled = pool.decode(cut, WANTED)
    assert "of the photo could be read" in str(pooled.warning)
    assert pooled.thumbnail == thumbnail_of(decode_reduced(cut, short_side=WANTED.short_side))
    for share in (0.1, 0.3):
        if not options:
            with pytest.raises(ImageError, match="damaged or cut off"):
                decode_image(whole[: int(len(whole) * share)])


def interlaced_png(image: Image.Image) -> bytes:
    """A PNG of the seven passes of Adam7, which Pillow does not write."""
    pixels = np.asarray(image)
    rows = b""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::across])
    header = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_photo_without_its_end_or_with_wrong_checksums_is_read_whole() -> None:
    jpeg = encoded(toy_photo(), "JPEG")
    found = decode_reduced(jpeg[:-2], short_side=10_000)
    np.testing.assert_array_equal(found.pixels, decode_image(jpeg))
    assert "all of the photo could be read" in (found.warning or "")
    png = bytearray(encoded(reference(), "PNG"))
    png[29] ^= 1
    np.testing.assert_array_equal(decode_image(bytes(png)), np.asarray(reference()))
    headless = jpeg[: jpeg.index(b"\xff\xda") + 14]
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode_image(headless)
