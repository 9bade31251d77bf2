"""EXIF 2.32 (CIPA DC-008), read by Pillow: what a camera says of a photo."""

from __future__ import annotations

import math
import struct
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

from crossmodal.metadata.dates import from_exif
from crossmodal.metadata.found import Found, coordinates, rounded, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Exif", "read_exif"]

_MAKE, _MODEL, _ORIENTATION, _DESCRIPTION, _CHANGED, _RATING = 0x10F, 0x110, 0x112, 0x10E, 0x132, 0x4746
_WIDTH, _HEIGHT, _SUB_FILES, _XMP, _IPTC = 0x100, 0x101, 0x14A, 0x2BC, 0x83BB
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9E
_EXIF_FILE, _GPS_FILE = 0x8769, 0x8825
_EXPOSURE, _APERTURE, _ISO, _FOCAL_LENGTH, _LENS = 0x829A, 0x829D, 0x8827, 0x920A, 0xA434
_TAKEN, _TAKEN_ZONE, _DIGITIZED, _DIGITIZED_ZONE, _ZONE = 0x9003, 0x9011, 0x9004, 0x9012, 0x9010
_USER_COMMENT = 0x9286
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4

# What cameras write into every photo.
_NO_DESCRIPTION = frozenset(
    {
        "olympus digital camera",
        "minolta digital camera",
        "konica minolta digital camera",
        "samsung camera pictures",
        "exif_jpeg_picture",
        "sony dsc",
        "kodak digital still camera",
        "digital camera",
        "screenshot",
        "default",
        "untitled",
    }
)
# What follows a maker's name and no one says.
_OF_COMPANIES = frozenset(
    {
        "corporation",
        "corp",
        "co",
        "company",
        "inc",
        "incorporated",
        "ltd",
        "limited",
        "electronics",
        "imaging",
        "optical",
        "electric",
        "camera",
        "ag",
        "gmbh",
        "technologies",
    }
)

# What Pillow raises for EXIF that is damaged.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
)


class Exif:
    """The directories of EXIF, or of a file that is built like it.

    ``found`` is what they say, ``orientation`` 1 to 8, ``size`` (width, height) of the largest picture that
    they describe, ``xmp`` and ``iptc`` the blocks that a TIFF has; ``warnings`` are sentences.
    """

    def __init__(self) -> None:
        self.found = Found()
        self.orientation = 1
        self.size: tuple[int, int] | None = None
        self.xmp: bytes | None = None
        self.iptc: bytes | None = None
        self.warnings: list[str] = []


def read_exif(
    block: bytes, *, whole: bool = False, camera: bytes | None = None, place: bytes | None = None
) -> Exif:
    """What EXIF says, from the order of its bytes on; ``whole`` for a file that is TIFF, raw formats too.

    ``camera`` and ``place`` are the directories of the camera and of GPS where they stand apart, each with a
    head like ``block``'s.
    """
    from PIL.Image import Exif as Directories

    exif = Exif()
    if whole and block[:4] in (b"IIRO", b"IIRS", b"IIU\0"):
        block = b"II*\0" + block[4:]
    with warnings.catch_warnings():
        # Pillow warns of what it leaves out.
        warnings.simplefilter("ignore")
        try:
            directories = Directories()
            directories.load_from_fp(BytesIO(block))
            main = _Values(directories)
        except _DAMAGE as error:
            exif.warnings.append(f"Its EXIF is damaged ({error}).")
            return exif
        shot, where = (
            _Values(_directory(directories, tag, exif) if apart is None else _apart(apart, exif))
            for tag, apart in ((_EXIF_FILE, camera), (_GPS_FILE, place))
        )
        _read_main(main, exif)
        _read_camera(main, shot, exif.found)
        _read_place(where, exif.found)
        if whole:
            _read_file(main, block, exif)
    return exif


class _Values:
    """The values of a directory; one that is damaged is None."""

    def __init__(self, directory: Mapping[int, Any]) -> None:
        self._directory = directory

    def raw(self, tag: int) -> Any:
        try:
            return self._directory[tag]
        except _DAMAGE:
            return None

    def text(self, tag: int) -> str | None:
        value = self.raw(tag)
        if isinstance(value, str):
            # ASCII by the standard; in truth UTF-8 or a code page. Pillow takes it for Latin-1.
            value = value.encode("latin-1", "replace")
        if not isinstance(value, bytes):
            return None
        return text_of(_utf8_or(value.partition(b"\0")[0], "cp1252"))

    def utf16(self, tag: int) -> str | None:
        """Text as Windows writes it."""
        value = self.raw(tag)
        if isinstance(value, tuple) and all(isinstance(unit, int) and 0 <= unit < 256 for unit in value):
            value = bytes(value)
        if not isinstance(value, bytes):
            return None
        return text_of(value.decode("utf-16-le", "replace").partition("\0")[0])

    def number(self, tag: int, digits: int = 6) -> float | int | None:
        value = self.raw(tag)
        return rounded(value[0] if isinstance(value, tuple) and value else value, digits)

    def whole(self, tag: int) -> int | None:
        value = self.raw(tag)
        return value if isinstance(value, int) else None


def _directory(directories: Any, tag: int, exif: Exif) -> Mapping[int, Any]:
    try:
        found: Mapping[int, Any] = directories.get_ifd(tag)
    except _DAMAGE as error:
        exif.warnings.append(f"A part of its EXIF is damaged ({error}).")
        return {}
    return found


def _apart(block: bytes, exif: Exif) -> Mapping[int, Any]:
    from PIL.Image import Exif as Directories

    found = Directories()
    try:
        found.load_from_fp(BytesIO(block))
    except _DAMAGE as error:
        exif.warnings.append(f"A part of its EXIF is damaged ({error}).")
        return {}
    return found


def _read_main(main: _Values, exif: Exif) -> None:
    found = exif.found
    orientation = main.whole(_ORIENTATION)
    if orientation is not None and 1 <= orientation <= 8:
        exif.orientation = orientation
    found.say("camera", _camera(main.text(_MAKE), main.text(_MODEL)))
    found.say("title", main.utf16(_XP_TITLE))
    for description in (main.text(_DESCRIPTION), main.utf16(_XP_COMMENT)):
        found.say("description", _meant(description))
    keywords = main.utf16(_XP_KEYWORDS)
    found.say("keywords", texts_of(keywords.split(";")) if keywords else [])
    rating = main.whole(_RATING)
    found.say("rating", rating if rating is not None and 1 <= rating <= 5 else None)


def _read_camera(main: _Values, camera: _Values, found: Found) -> None:
    zone = camera.text(_ZONE)
    found.say("taken", from_exif(camera.text(_TAKEN), camera.text(_TAKEN_ZONE) or zone))
    found.say("taken", from_exif(camera.text(_DIGITIZED), camera.text(_DIGITIZED_ZONE) or zone))
    found.say("taken", from_exif(main.text(_CHANGED), zone))
    lens = camera.text(_LENS)
    found.say("lens", lens if lens and any(letter.isalnum() for letter in lens) else None)
    # 65535 stands for more than fits.
    iso = camera.number(_ISO)
    found.say("iso", iso if iso != 0xFFFF else None)
    found.say("aperture", camera.number(_APERTURE, 3))
    found.say("exposure_seconds", camera.number(_EXPOSURE, 4))
    found.say("focal_length_mm", camera.number(_FOCAL_LENGTH, 4))
    found.say("description", _meant(_comment(camera.raw(_USER_COMMENT))))


def _read_place(place: _Values, found: Found) -> None:
    latitude = _degrees(place.raw(_LATITUDE), place.text(_LATITUDE_REF), "S")
    longitude = _degrees(place.raw(_LONGITUDE), place.text(_LONGITUDE_REF), "W")
    found.place(coordinates(latitude, longitude))


def _read_file(main: _Values, block: bytes, exif: Exif) -> None:
    """What stands in a TIFF itself: its pictures, and words."""
    sizes = [(main.whole(_WIDTH), main.whole(_HEIGHT))]
    # The first picture of a raw file may be a small one.
    sizes += [
        (inner.whole(_WIDTH), inner.whole(_HEIGHT)) for inner in _inner_files(main.raw(_SUB_FILES), block)
    ]
    known = [(width, height) for width, height in sizes if width and height]
    exif.size = max(known, key=lambda size: size[0] * size[1], default=None)
    for tag, name in ((_XMP, "xmp"), (_IPTC, "iptc")):
        value = main.raw(tag)
        if isinstance(value, tuple) and all(isinstance(unit, int) for unit in value):
            # IPTC is written as numbers of 4 bytes, in the order of the file.
            order = "little" if block[:2] == b"II" else "big"
            width = 4 if name == "iptc" else 1
            try:
                value = b"".join(unit.to_bytes(width, order) for unit in value)
            except OverflowError:
                value = None
        if isinstance(value, bytes):
            setattr(exif, name, value)


def _inner_files(offsets: Any, block: bytes) -> list[_Values]:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    found = []
    for offset in (offsets if isinstance(offsets, tuple) else (offsets,))[:8]:
        if not isinstance(offset, int):
            continue
        try:
            directory = ImageFileDirectory_v2(block[:16])
            file = BytesIO(block)
            file.seek(offset)
            directory.load(file)
        except _DAMAGE:
            continue
        found.append(_Values({tag: _first(directory, tag) for tag in (_WIDTH, _HEIGHT)}))
    return found


def _first(directory: Any, tag: int) -> Any:
    try:
        value = directory[tag]
    except _DAMAGE:
        return None
    return value[0] if isinstance(value, tuple) and value else value


def _degrees(value: Any, reference: str | None, negative: str) -> float | None:
    """Degrees, minutes and seconds; the last ones may be missing, or have no value (0/0)."""
    if not isinstance(value, tuple | list) or not reference:
        return None
    try:
        parts = [float(part) for part in value[:3]]
    except _DAMAGE:
        return None
    degrees = 0.0
    for part, unit in zip(parts, (1, 60, 3600), strict=False):
        degrees += 0.0 if math.isnan(part) else part / unit
    return -degrees if reference.upper().startswith(negative) else degrees


def _camera(make: str | None, model: str | None) -> str | None:
    """Maker and model with the maker's name once: of "Canon" and "Canon EOS 5D" the model is enough."""
    if not make or not model:
        return model or make
    words = [word for word in make.split() if word.strip(".,").lower() not in _OF_COMPANIES] or make.split()
    maker = " ".join(words).rstrip(",")
    if any(word.lower() == model.split()[0].lower() for word in words) or model.lower().startswith(
        maker.lower()
    ):
        return model
    return f"{maker} {model}"


def _meant(description: str | None) -> str | None:
    return None if description and description.lower() in _NO_DESCRIPTION else description


def _comment(value: Any) -> str | None:
    """A comment behind eight bytes that name its letters."""
    if not isinstance(value, bytes) or len(value) <= 8:
        return None
    letters, text = value[:8], value[8:]
    if letters == b"UNICODE\0":
        order = "utf-16-le" if text[1:2] == b"\0" or text[:2] == b"\xff\xfe" else "utf-16-be"
        return text_of(text.decode(order, "replace").strip("\ufeff\0"))
    if letters in (b"ASCII\0\0\0", bytes(8)):
        return text_of(_utf8_or(text.partition(b"\0")[0], "cp1252"))
    return None


def _utf8_or(value: bytes, other: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode(other, "replace")
