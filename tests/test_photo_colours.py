"""Transparency lies on white and wide colours become those of sRGB, for the model and the thumbnail."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from decoded_photos import WANTED, reference, small_pool
from photos import encoded
from PIL import Image, ImageDraw

from crossmodal.images import decode_image
from crossmodal.images.cropping import Square
from crossmodal.images.pool import DecodePool, PhotoRequest


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with small_pool() as made:
        yield made


def see_through() -> Image.Image:
    """Green that nobody may see, with an opaque red disc and a half transparent blue one."""
    image = Image.new("RGBA", (90, 60), (0, 255, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, 40, 40), fill=(255, 0, 0, 255))
    draw.ellipse((50, 10, 80, 40), fill=(0, 0, 255, 128))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "palette", "GIF", "grey", "one colour"])
def test_what_can_be_seen_through_lies_on_white(kind: str, pool: DecodePool) -> None:
    image, half = see_through(), (127, 127, 255)
    if kind in ("palette", "GIF"):
        blob = encoded(image.quantize(16), "PNG") if kind == "palette" else encoded(image, "GIF")
        half = (0, 0, 255) if kind == "GIF" else half
    elif kind == "grey":
        blob, half = encoded(image.convert("LA"), "PNG"), (141, 141, 141)
    elif kind == "one colour":
        blob, half = encoded(image.convert("RGB"), "PNG", transparency=(0, 255, 0)), (0, 0, 255)
    else:
        blob = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = decode_image(blob)
    solid = (76, 76, 76) if kind == "grey" else (255, 0, 0)
    for place, colour in (((5, 5), (255,) * 3), ((25, 25), solid), ((25, 65), half)):
        np.testing.assert_allclose(pixels[place], colour, atol=6, err_msg=str(place))
    found = pool.decode(blob, PhotoRequest(Square(60, "squash"), short_side=60, thumbnail=True))
    np.testing.assert_allclose(found.pixels[5, 5], (255,) * 3, atol=6)
    thumbnail = np.asarray(Image.open(BytesIO(found.thumbnail or b"")))
    np.testing.assert_allclose(thumbnail[5, 5], (255,) * 3, atol=10)


def profile(primaries: np.ndarray, gamma: float) -> bytes:
    """An ICC profile of a display: its ``primaries``, columns of XYZ under D50, float (3, 3), and a curve."""

    def fixed(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(8 + 3 + 67)
    tags = {b"desc": name, b"wtpt": fixed(np.array([0.9642, 1.0, 0.8249]))}
    tags |= {kind: fixed(primaries[:, place]) for place, kind in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for kind, data in tags.items():
        table += kind + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4s4s4s4s4s", start + len(body), bytes(4), b"\x02\x10\0\0", b"mntr", b"RGB ", b"XYZ "
    )
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


# Display P3 and sRGB under D50, as the profiles of Apple and of the ICC have them.
P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_wide_colours_become_those_of_srgb(kind: str, pool: DecodePool) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    colour = np.array([200, 120, 80])
    linear = np.linalg.solve(SRGB, P3 @ (colour / 255) ** 2.2)
    wanted = np.where(linear > 0.0031308, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055, 12.92 * linear) * 255
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True}
    image = Image.new("RGB", (64, 64), tuple(colour.tolist()))
    blob = encoded(image, kind, icc_profile=profile(P3, 2.2), **(options if kind in ("JPEG", "WEBP") else {}))
    assert np.abs(wanted - colour).max() > 8
    np.testing.assert_allclose(decode_image(blob)[30, 30], wanted, atol=3)
    np.testing.assert_allclose(pool.decode(blob, WANTED).pixels[30, 30], wanted, atol=3)
    grey = encoded(Image.new("RGB", (64, 64), (90, 90, 90)), "PNG", icc_profile=profile(SRGB, 2.2))
    np.testing.assert_allclose(decode_image(grey)[30, 30], 90, atol=4)


def test_a_profile_that_cannot_be_used_is_said(pool: DecodePool) -> None:
    for broken in (b"no profile", profile(P3, 2.2)[:200]):
        found = pool.decode(encoded(reference(), "JPEG", icc_profile=broken), WANTED)
        assert "colour profile" in (found.warning or "")
    # Of printing colours, in a photo that has none.
    printing = profile(P3, 2.2).replace(b"RGB ", b"CMYK", 1)
    np.testing.assert_array_equal(
        decode_image(encoded(reference(), "PNG", icc_profile=printing)), np.asarray(reference())
    )
