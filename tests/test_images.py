"""Bytes of every usual and unusual kind to upright RGB pixels, or to one clear sentence."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photos import encoded, shared_photos, toy_photo
from PIL import Image, ImageOps

from crossmodal.errors import ImageError
from crossmodal.images import (
    MAX_PIXELS,
    SizedPhoto,
    decode_image,
    decode_reduced,
    sniff_mime_type,
    thumbnail_of,
)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photo that no orientation maps to itself: 96 x 64 pixels."""
    return toy_photo().resize((96, 64))


def png_header(width: int, height: int) -> bytes:
    """A valid PNG signature and header of a huge image, with hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("image_format", "mime_type"),
    [
        ("PNG", "image/png"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
    ],
)
def test_lossless_formats_give_the_same_pixels(photo: Image.Image, image_format: str, mime_type: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    blob = encoded(photo, image_format, **options)
    assert sniff_mime_type(blob) == mime_type
    np.testing.assert_array_equal(decode_image(blob), np.asarray(photo))


def test_real_photos_decode_as_pillow_does_it() -> None:
    compared = 0
    for path in shared_photos("coco-photos", 20):
        blob = path.read_bytes()
        assert sniff_mime_type(blob) == "image/jpeg"
        with Image.open(path) as photo:
            # One with a profile becomes sRGB, see test_photo_colours.
            if "icc_profile" not in photo.info:
                np.testing.assert_array_equal(decode_image(blob), np.asarray(photo.convert("RGB")))
                compared += 1
    assert compared >= 5


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photo: Image.Image, orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, object]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    blob = encoded(photo, image_format, exif=exif, **options.get(image_format, {}))
    with Image.open(BytesIO(blob)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = decode_image(blob)
    assert found.shape == ((96, 64, 3) if orientation >= 5 else (64, 96, 3))
    assert decode_reduced(blob, short_side=64).frame == (0, 0, found.shape[1], found.shape[0])
    np.testing.assert_array_equal(found, expected)


def test_damaged_exif_counts_as_upright(photo: Image.Image) -> None:
    blob = encoded(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", quality=95)
    np.testing.assert_array_equal(decode_image(blob), decode_image(encoded(photo, "JPEG", quality=95)))


def test_greyscale_alpha_palette_and_one_bit(photo: Image.Image) -> None:
    grey = np.asarray(photo.convert("L"))
    for kind in ("L", "LA"):
        found = decode_image(encoded(photo.convert(kind), "PNG"))
        np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, axis=2))
    palette = photo.quantize(64)
    for image_format in ("PNG", "GIF"):
        found = decode_image(encoded(palette, image_format))
        np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))
    one_bit = photo.convert("1")
    assert set(np.unique(decode_image(encoded(one_bit, "PNG")))) == {0, 255}
    np.testing.assert_array_equal(
        decode_image(encoded(one_bit, "PNG"))[:, :, 0] > 127, np.asarray(one_bit, bool)
    )


def test_cmyk_jpeg_shows_the_photo_and_not_its_negative(photo: Image.Image) -> None:
    blob = encoded(photo.convert("CMYK"), "JPEG", quality=95)
    difference = decode_image(blob).astype(int) - np.asarray(photo).astype(int)
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bits_are_scaled_and_not_clipped(photo: Image.Image, image_format: str) -> None:
    grey = np.asarray(photo.convert("L"))
    deep = Image.fromarray((grey.astype(np.uint16) * 257).astype(np.uint16))
    found = decode_image(encoded(deep, image_format))
    np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, axis=2))


def test_32_bits_and_floats_are_scaled_by_their_range() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = np.rint(ramp * 255).astype(np.uint8)
    for values in (ramp, ramp * 255, ramp * 65535, ramp * 1e6):
        found = decode_image(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))
        np.testing.assert_allclose(found[:, :, 0], expected, atol=1)
    whole = Image.fromarray((ramp * 65535).astype(np.int32))
    np.testing.assert_allclose(decode_image(encoded(whole, "TIFF"))[:, :, 1], expected, atol=1)
    nowhere = Image.fromarray(np.full((4, 4), np.nan, np.float32))
    assert decode_image(encoded(nowhere, "TIFF")).max() == 0


def test_the_first_frame_of_an_animation_is_shown(photo: Image.Image) -> None:
    frames = [photo.quantize(32), Image.new("P", photo.size)]
    blob = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(blob), np.asarray(frames[0].convert("RGB")))


def test_jpegs_are_decoded_smaller_but_never_below_the_side_asked_for(photo: Image.Image) -> None:
    large = photo.resize((2400, 1600))
    blob = encoded(large, "JPEG")
    assert decode_image(blob).shape == (1600, 2400, 3)
    for side, shape in (
        (448, (800, 1200, 3)),
        (401, (800, 1200, 3)),
        (400, (400, 600, 3)),
        (100, (200, 300, 3)),
    ):
        found = decode_reduced(blob, short_side=side)
        assert found.pixels.shape == shape
        assert found.frame == (0, 0, shape[1], shape[0])
    assert decode_reduced(blob, short_side=5000).pixels.shape == (1600, 2400, 3)
    assert decode_reduced(encoded(large, "BMP"), short_side=100).pixels.shape == (1600, 2400, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_frame_of_a_reduced_photo_follows_its_orientation(orientation: int) -> None:
    # At a quarter, 500.25 x 375.5 pixels lie in 501 x 376.
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = toy_photo().resize((2001, 1502))
    whole = decode_image(blob := encoded(large, "JPEG", exif=exif))
    found = decode_reduced(blob, short_side=350)
    left, top, right, bottom = found.frame
    height, width = found.pixels.shape[:2]
    assert {right - left, bottom - top} == {500.25, 375.5}
    assert {width, height} == {501, 376}
    assert min(left, top) >= 0
    assert (right, bottom) <= (width, height)
    small = np.asarray(Image.fromarray(found.pixels).resize((45, 45), box=found.frame)).astype(int)
    wanted = np.asarray(Image.fromarray(whole).resize((45, 45))).astype(int)
    # Half a pixel to any side makes this four times as much.
    assert np.abs(small - wanted).mean() < 0.25


@pytest.mark.parametrize(
    ("blob", "sentence"),
    [
        (
            b"",
            r"The file is empty \(0 bytes\); formats that can be read: JPEG, .*HEIC, .*the extra raw DNG",
        ),
        (b"just some notes\n", r"The file is text, not an image \(it starts with 'just some notes"),
        (b"\x00\x01\x02\x03binary", r"not an image \(it starts with the bytes 00 01 02 03 62 69 6e 61\)"),
        (b"%PDF-1.7\n", r"The file is of the type application/pdf; "),
        (b"\0\0\0\x18ftypheic\0\0\0\0", r"The HEIC file of 16 bytes is damaged or cut off"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", r"The file is of the type video/mp4; "),
        (b"\x89PNG\r\n\x1a\n", r"The PNG file of 8 bytes is damaged or cut off"),
        (b"BM", r"The BMP file of 2 bytes is damaged or cut off"),
        (b"RIFF\x04\0\0\0WEBP", r"The WebP file of 12 bytes is damaged or cut off"),
        (b"GIF89a", r"The GIF file of 6 bytes is damaged or cut off"),
    ],
)
def test_what_is_not_an_image_is_named(blob: bytes, sentence: str) -> None:
    for read in (decode_image, reduced):
        with pytest.raises(ImageError, match=sentence) as caught:
            read(blob)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_too_early_is_refused(
    photo: Image.Image, image_format: str, share: float
) -> None:
    if image_format in ("JPEG", "PNG"):
        # Of these the rest is read where it is at least half.
        share /= 3
    blob = encoded(photo.quantize(64) if image_format == "GIF" else photo, image_format)
    short = blob[: int(len(blob) * share)]
    for read in (decode_image, reduced):
        with pytest.raises(ImageError, match="is damaged or cut off"):
            read(short)


def test_the_pixel_limit_is_named_with_the_actual_size() -> None:
    bomb = png_header(30_000, 20_000)
    assert len(bomb) < 200
    with pytest.raises(ImageError, match=r"30000 x 20000 = 600,000,000 pixels; the limit is 178,956,970\."):
        decode_image(bomb)
    with pytest.raises(ImageError, match="the limit is 5,999"):
        decode_image(encoded(Image.new("RGB", (100, 60)), "PNG"), max_pixels=5_999)
    with pytest.raises(ImageError, match="the limit is 5,999"):
        decode_reduced(encoded(Image.new("RGB", (100, 60)), "JPEG"), short_side=8, max_pixels=5_999)
    assert decode_image(encoded(Image.new("RGB", (100, 60)), "PNG"), max_pixels=6_000).shape == (60, 100, 3)


def test_the_limit_can_be_raised_above_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    blob = encoded(Image.new("RGB", (100, 60)), "PNG")
    assert decode_image(blob, max_pixels=MAX_PIXELS).shape == (60, 100, 3)


@given(st.data())
def test_damage_anywhere_raises_image_error_or_nothing(data: st.DataObject) -> None:
    image = Image.fromarray(np.arange(30 * 20 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3))
    image_format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]))
    blob = bytearray(encoded(image, image_format))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        found = decode_image(bytes(blob), max_pixels=10_000_000)
        assert found.dtype == np.uint8
        assert found.shape[2] == 3


def test_warnings_stay_as_they_were_after_decoding_in_many_threads(photo: Image.Image) -> None:
    blob = encoded(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        shapes = set(threads.map(lambda _: decode_image(blob).shape, range(120)))
    assert shapes == {(64, 96, 3)}
    assert list(warnings.filters) == before


def reduced(blob: bytes) -> SizedPhoto:
    """A photo as the loader decodes it."""
    return decode_reduced(blob, short_side=128)


def test_a_thumbnail_fits_the_side_and_looks_like_the_photo() -> None:
    large = toy_photo().resize((900, 600))
    small = Image.open(BytesIO(thumbnail_of(reduced(encoded(large, "PNG")), side=128)))
    assert small.format == "JPEG"
    assert small.size == (128, 85)
    expected = np.asarray(large.resize((128, 85), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - expected).mean() < 4
    tiny = Image.open(BytesIO(thumbnail_of(reduced(encoded(large.resize((30, 20)), "PNG")), side=128)))
    assert tiny.size == (30, 20)
    halved = Image.open(BytesIO(thumbnail_of(reduced(encoded(large, "JPEG", quality=95)), side=128)))
    assert halved.size == (128, 85)
    assert np.abs(np.asarray(halved).astype(int) - expected).mean() < 4
    thin = Image.open(BytesIO(thumbnail_of(reduced(encoded(Image.new("RGB", (2000, 2)), "PNG")), side=128)))
    assert thin.size == (128, 1)
