"""Every format of the table is read: files of other programs, by their pixels, here and in the pool."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from photos import encoded, toy_photo
from PIL import Image, ImageDraw

from crossmodal.cli import main
from crossmodal.errors import ImageError
from crossmodal.images import decode_image, decode_reduced, sniff_mime_type, thumbnail_of
from crossmodal.images.budget import MemoryBudget
from crossmodal.images.cropping import Square
from crossmodal.images.formats import EXTENSIONS, FORMATS, READABLE_TYPES, formats_sentence, formats_table
from crossmodal.images.frames import frame_count
from crossmodal.images.pool import DecodePool, PhotoRequest

FOLDER = REPOSITORY / "tests" / "fixtures" / "formats"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".md")
WANTED = PhotoRequest(Square(64, "crop"), short_side=64, thumbnail=True)
NEEDS = {".jxl": "pyjpegxl", ".dng": "rawpy"}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    budget = MemoryBudget(512 << 20)
    with DecodePool(budget, most=1) as made:
        yield made
    budget.close()


def reference() -> Image.Image:
    """What all files of the folder show."""
    return toy_photo().resize((96, 64), Image.Resampling.BICUBIC)


def require(name: str) -> None:
    """Skips the test where the extra that reads such a file is not installed."""
    if (package := NEEDS.get(Path(name).suffix)) is not None:
        pytest.importorskip(package)


def parts(pixels: np.ndarray) -> np.ndarray:
    """The mean colours of 4 x 6 parts: float (4, 6, 3)."""
    small = Image.fromarray(pixels).resize((6, 4), Image.Resampling.BOX)
    return np.asarray(small).astype(float)


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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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


def raw_file(*, standard: bool = True, preview: bytes = b"", side: int = 64, orientation: int = 1) -> bytes:
    """A raw file of a camera, after the DNG specification 1.4: a mosaic of red above and blue below.

    Without ``standard`` it is one of TIFF/EP, as of makers that don't write DNG.
    """
    mosaic = np.zeros((side, side), "<u2")
    mosaic[: side // 2 : 2, ::2] = 40_000
    mosaic[side // 2 + 1 :: 2, 1::2] = 40_000
    strip = mosaic.tobytes()
    tags: list[tuple[int, int, bytes]] = [
        (254, 4, struct.pack("<I", 0)),
        (256, 4, struct.pack("<I", side)),
        (257, 4, struct.pack("<I", side)),
        (258, 3, struct.pack("<H", 16)),
        (259, 3, struct.pack("<H", 1)),
        (262, 3, struct.pack("<H", 32803)),
        (271, 2, b"Nobody\0"),
        (272, 2, b"Nothing\0"),
        (273, 4, b"STRP"),
        (274, 3, struct.pack("<H", orientation)),
        (277, 3, struct.pack("<H", 1)),
        (278, 4, struct.pack("<I", side)),
        (279, 4, struct.pack("<I", len(strip))),
        (33421, 3, struct.pack("<2H", 2, 2)),
        (33422, 1, bytes((0, 1, 1, 2))),
    ]
    if standard:
        matrix = (1, 0, 0, 0, 1, 0, 0, 0, 1)
        tags += [
            (50706, 1, bytes((1, 4, 0, 0))),
            (50708, 2, b"Nothing\0"),
            (50721, 10, b"".join(struct.pack("<ii", value, 1) for value in matrix)),
            (50728, 5, struct.pack("<6I", 1, 1, 1, 1, 1, 1)),
        ]
    extra: list[tuple[int, int, bytes]] = []
    if preview:
        tags.append((330, 4, b"SUBF"))
        extra = [
            (254, 4, struct.pack("<I", 1)),
            (256, 4, struct.pack("<I", Image.open(BytesIO(preview)).width)),
            (257, 4, struct.pack("<I", Image.open(BytesIO(preview)).height)),
            (258, 3, struct.pack("<3H", 8, 8, 8)),
            (259, 3, struct.pack("<H", 7)),
            (262, 3, struct.pack("<H", 6)),
            (273, 4, b"PREV"),
            (277, 3, struct.pack("<H", 3)),
            (278, 4, struct.pack("<I", Image.open(BytesIO(preview)).height)),
            (279, 4, struct.pack("<I", len(preview))),
        ]
    first = 8
    second = first + 6 + 12 * len(tags)
    data_start = second + (6 + 12 * len(extra) if extra else 0)
    data = b""
    places = {b"SUBF": second}
    for name, content in ((b"STRP", strip), (b"PREV", preview)):
        places[name] = data_start + len(data)
        data += content

    def folder(entries: list[tuple[int, int, bytes]]) -> bytes:
        nonlocal data
        made = struct.pack("<H", len(entries))
        for tag, kind, value in sorted(entries):
            size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}[kind]
            value = struct.pack("<I", places[value]) if value in places else value
            count = len(value) // size
            if len(value) > 4:
                place = data_start + len(data)
                data += value
                value = struct.pack("<I", place)
            made += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        return made + struct.pack("<I", 0)

    folders = folder(tags) + (folder(extra) if extra else b"")
    return b"II*\0" + struct.pack("<I", first) + folders + data


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
