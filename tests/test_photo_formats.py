"""Every format of the table is read: files of other programs, by their pixels, here and in the pool."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from decoded_photos import WANTED, parts, reference, small_pool
from photos import encoded, toy_photo
from PIL import Image
from raw_files import raw_file

from crossmodal.cli import main
from crossmodal.errors import ImageError
from crossmodal.images import decode_image, decode_reduced, sniff_mime_type, thumbnail_of
from crossmodal.images.cropping import Square
from crossmodal.images.formats import EXTENSIONS, FORMATS, READABLE_TYPES, formats_sentence, formats_table
from crossmodal.images.frames import frame_count
from crossmodal.images.pool import DecodePool, PhotoRequest
from crossmodal.videos.formats import videos_sentence

FOLDER = REPOSITORY / "tests" / "fixtures" / "formats"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".md")
NEEDS = {".jxl": "pyjpegxl", ".dng": "rawpy"}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with small_pool() as made:
        yield made


def require(name: str) -> None:
    """Skips the test where the extra that reads such a file is not installed."""
    if (package := NEEDS.get(Path(name).suffix)) is not None:
        pytest.importorskip(package)


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs_show_the_photo(name: str, pool: DecodePool) -> None:
    require(name)
    blob = (FOLDER / name).read_bytes()
    assert sniff_mime_type(blob) in READABLE_TYPES
    pixels = decode_image(blob)
    wanted = reference()
    if "plain" in name:
        wanted = wanted.resize((48, 32), Image.Resampling.BOX)
    if name.endswith(".pgm"):
        wanted = wanted.convert("L").convert("RGB")
    assert pixels.shape == np.asarray(wanted).shape
    # Colours that were printed and read again differ more.
    np.testing.assert_allclose(parts(pixels), parts(np.asarray(wanted)), atol=24 if "cmyk" in name else 8)
    photo = decode_reduced(blob, short_side=WANTED.short_side)
    found = pool.decode(blob, WANTED)
    assert found.warning is None
    assert found.thumbnail == thumbnail_of(photo)
    picture = np.asarray(Image.open(BytesIO(pool.picture(blob))))
    assert picture.shape == pixels.shape
    np.testing.assert_allclose(parts(picture), parts(pixels), atol=4)


def test_each_ending_belongs_to_one_format_and_each_format_has_a_file() -> None:
    endings = [extension for format in FORMATS for extension in format.extensions]
    assert sorted(endings) == sorted(EXTENSIONS)
    types = {sniff_mime_type((FOLDER / name).read_bytes()) for name in FILES}
    types |= {sniff_mime_type(encoded(reference(), kind)) for kind in ("JPEG", "PNG", "BMP")}
    types |= {sniff_mime_type(raw_file()), sniff_mime_type(raw_file(standard=False))}
    assert {format.name for format in FORMATS if not types & set(format.mime_types)} == set()


def test_the_table_stands_where_people_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert formats_table() in (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"Photos: {formats_sentence()}." in readme
    assert f"Videos: {videos_sentence()}." in readme
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    assert formats_sentence() in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("brands", "mime_type"),
    [
        ((b"heic", b"mif1"), "image/heic"),
        ((b"mif1", b"heic"), "image/heic"),
        ((b"mif1", b"miaf"), "image/heif"),
        ((b"mif1", b"miaf", b"avif"), "image/avif"),
        ((b"crx ", b"isom"), "image/x-dcraw"),
        ((b"isom", b"mp42"), "video/mp4"),
        ((b"qt  ",), "video/quicktime"),
    ],
)
def test_files_of_boxes_are_told_apart_by_all_their_brands(brands: tuple[bytes, ...], mime_type: str) -> None:
    body = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    assert sniff_mime_type(struct.pack(">I", len(body) + 4) + body) == mime_type


def test_what_a_file_holds_beside_the_first_picture_is_counted() -> None:
    three = [reference(), reference().rotate(90), reference().rotate(180)]
    options = {"save_all": True, "append_images": three[1:]}
    for kind in ("PNG", "WEBP", "TIFF"):
        blob = encoded(three[0], kind, **options)
        assert frame_count(blob) == 3, kind
        assert frame_count(encoded(three[0], kind)) == 1
        assert frame_count(blob[: len(blob) // 2]) >= 1
    palettes = [image.quantize(16) for image in three]
    gif = encoded(palettes[0], "GIF", save_all=True, append_images=palettes[1:])
    assert frame_count(gif) == 3
    assert frame_count((FOLDER / "photo-pages.tif").read_bytes()) == 2
    assert frame_count((FOLDER / "photo-animation.webp").read_bytes()) == 2
    assert frame_count(encoded(three[0], "JPEG")) == frame_count(b"") == 1


def test_a_raw_file_is_known_by_its_sensor() -> None:
    assert sniff_mime_type(raw_file()) == "image/x-adobe-dng"
    assert sniff_mime_type(raw_file(standard=False)) == "image/x-dcraw"
    assert sniff_mime_type(encoded(reference(), "TIFF")) == "image/tiff"
    assert sniff_mime_type(b"II*\0\x10\0\0\0CR\x02\0") == "image/x-dcraw"
    assert sniff_mime_type(b"FUJIFILMCCD-RAW 0201") == "image/x-dcraw"


def test_a_raw_file_shows_its_preview_or_else_its_sensor(pool: DecodePool) -> None:
    pytest.importorskip("rawpy")
    developed = decode_image(raw_file(side=128))
    assert developed.shape == (128, 128, 3)
    top, bottom = developed[30, 64].astype(int), developed[100, 64].astype(int)
    assert top[0] > top[2] + 40
    assert bottom[2] > bottom[0] + 40
    # Half of the mosaic is enough for a small square.
    assert decode_reduced(raw_file(side=128), short_side=60).pixels.shape == (64, 64, 3)
    large = toy_photo().resize((900, 640))
    seen = raw_file(preview=encoded(large, "JPEG", quality=90))
    np.testing.assert_allclose(parts(decode_image(seen)), parts(np.asarray(large)), atol=3)
    assert pool.decode(seen, WANTED).pixels.shape == (64, 64, 3)
    # The camera was held upright; the preview lies on its side and says nothing.
    turned = decode_image(raw_file(preview=encoded(large, "JPEG"), orientation=6))
    assert turned.shape == (900, 640, 3)
    np.testing.assert_allclose(turned.mean(axis=(0, 1)), np.asarray(large).mean(axis=(0, 1)), atol=2)
    # One for the camera's own screen does not count.
    small = raw_file(preview=encoded(large.resize((160, 120)), "JPEG"), side=128)
    assert decode_image(small).shape == (128, 128, 3)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjpegxl", None)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"Reading JPEG XL files needs pyjpegxl: pip install .*\[jxl\]"):
        decode_image((FOLDER / "photo.jxl").read_bytes())
    with pytest.raises(ImageError, match=r"Reading DNG files needs rawpy: pip install .*\[raw\]"):
        decode_image(raw_file())


def enlarged(name: str) -> bytes:
    """A file of the folder whose header claims 20,000 x 10,000 pixels."""
    blob = (FOLDER / name).read_bytes()
    small, large = struct.pack(">II", 96, 64), struct.pack(">II", 20_000, 10_000)
    before, after = {
        ".jp2": (b"ihdr" + struct.pack(">II", 64, 96), b"ihdr" + struct.pack(">II", 10_000, 20_000)),
        ".pgm": (b"96 64", b"20000 10000"),
    }.get(Path(name).suffix, (b"ispe\0\0\0\0" + small, b"ispe\0\0\0\0" + large))
    assert before in blob
    return blob.replace(before, after)


@pytest.mark.parametrize("name", ["photo.heic", "photo.avif", "photo.jp2", "photo.pgm", "photo.psd"])
def test_a_size_beyond_the_limit_is_refused_from_the_header(name: str, pool: DecodePool) -> None:
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 10_000, 20_000, 8, 3) + bytes(14)
    with pytest.raises(ImageError, match="20000 x 10000 = 200,000,000 pixels; the limit is 178,956,970"):
        pool.decode(psd if name == "photo.psd" else enlarged(name), WANTED)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JPEG2000", "PPM", "JXL", "TIFF", "alpha"])
def test_what_a_format_takes_is_granted_and_no_less(kind: str, pool: DecodePool) -> None:
    # Larger than what is granted unasked, so that it has to be counted.
    large = toy_photo().resize((1500, 1100))
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if kind == "JXL":
        pyjpegxl = pytest.importorskip("pyjpegxl")
        blob = pyjpegxl.encode(
            large.tobytes(), *large.size, num_channels=3, speed=pyjpegxl.EncoderSpeed.Lightning
        )
    elif kind == "alpha":
        large.putalpha(large.convert("L"))
        blob = encoded(large.quantize(32), "PNG")
    else:
        options = {
            "AVIF": {"speed": 10},
            "HEIF": {"enc_params": {"preset": "ultrafast"}},
            "TIFF": {"compression": "tiff_lzw"},
        }
        blob = encoded(large, kind, **options.get(kind, {}))
    assert pool.decode(blob, PhotoRequest(Square(64, "squash"), 64)).pixels.shape == (64, 64, 3)
