"""Decoded images of any kind to RGB in sRGB, on white where they can be seen through."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.images.limits import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

__all__ = ["has_alpha", "is_deep", "modules_for", "profile_of", "to_rgb"]

# Deep greyscale is scaled so many pixels at a time, each of which takes some 25 bytes meanwhile.
_BAND_PIXELS = 1 << 18

_WHITE = (255, 255, 255)

# The colour spaces of profiles (ICC.1:2022, 7.2.6), and the modes whose values they describe.
_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK", "L": "GRAY", "LAB": "Lab "}


def is_deep(image: Image) -> bool:
    """Whether it is greyscale of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def has_alpha(image: Image) -> bool:
    """Whether it can be seen through: by a channel, by its palette, or by one colour."""
    return image.has_transparency_data and not is_deep(image)


def profile_of(image: Image) -> bytes | None:
    """Its ICC profile; None where it has none."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def modules_for(image: Image) -> tuple[str, ...]:
    """What ``to_rgb`` imports for it."""
    numpy = ("numpy",) if is_deep(image) else ()
    return (*numpy, "PIL.ImageCms") if image.mode == "LAB" or profile_of(image) else numpy


def to_rgb(image: Image) -> tuple[Image, str | None]:
    """Opaque RGB in sRGB, and a sentence where the colours could not be converted.

    What can be seen through is laid on white. Greyscale of 16 and more bits is scaled to 8 bits, not clipped.
    """
    profile = profile_of(image)
    if is_deep(image):
        image = _to_8_bits(image)
    see_through = has_alpha(image)
    if see_through and image.mode != "RGBA":
        image = image.convert("RGBA")
    elif not see_through and image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    image, warning = _to_srgb(image, profile)
    if see_through:
        return _on_white(image), warning
    return image if image.mode == "RGB" else image.convert("RGB"), warning


def _on_white(image: Image) -> Image:
    from PIL.Image import new

    ground = new("RGB", image.size, _WHITE)
    ground.paste(image, mask=image)
    return ground


def _to_srgb(image: Image, profile: bytes | None) -> tuple[Image, str | None]:
    if profile is None and image.mode != "LAB":
        return image, None
    if profile is not None and len(profile) > MAX_PROFILE_BYTES:
        return image, (
            f"Its colour profile has {len(profile):,} bytes; the limit is {MAX_PROFILE_BYTES:,}, so its "
            "colours are taken for those of sRGB."
        )
    from PIL.ImageCms import PyCMSError

    if image.mode == "L" and profile is not None and profile[16:20] == b"RGB ":
        image = image.convert("RGB")
    try:
        transform = _transform(profile, image.mode)
        if transform is None:
            return image, None
        if transform.output_mode == image.mode:
            return transform.apply_in_place(image), None
        return transform.apply(image), None
    except (PyCMSError, OSError, ValueError) as error:
        detail = " ".join(str(error).split())
        return image, f"Its colour profile is damaged ({detail}); its colours are taken for those of sRGB."


@lru_cache(maxsize=8)
def _transform(profile: bytes | None, mode: str) -> ImageCmsTransform | None:
    """What turns the colours of ``mode`` into sRGB; None where they are, or are of another colour space.

    ``profile`` is None for LAB, which is a colour space by itself.
    """
    from PIL.ImageCms import ImageCmsProfile, ImageCmsTransform, Intent, createProfile

    source = ImageCmsProfile(createProfile("LAB") if profile is None else BytesIO(profile))
    if source.profile.xcolor_space != _SPACES[mode]:
        return None
    if mode in ("RGB", "RGBA") and (source.profile.profile_description or "").startswith("sRGB"):
        return None
    output = "RGBA" if mode == "RGBA" else "RGB"
    srgb = ImageCmsProfile(createProfile("sRGB"))
    return ImageCmsTransform(source, srgb, mode, output, Intent.PERCEPTUAL)


def _to_8_bits(image: Image) -> Image:
    """Greyscale of 16 or 32 bits or float to 0..255.

    16-bit integers have a known range. For wider types the range is the smallest of 1 (float only), 255 and
    65535 that holds the largest value, and the largest value itself where none does.
    """
    from PIL.Image import new

    white = _white_of(image)
    scaled = new("L", image.size)
    for top, values in _bands(image):
        scaled.paste(_band_to_8_bits(values, white), (0, top))
    return scaled


def _white_of(image: Image) -> float:
    if image.mode.startswith("I;16"):
        return 65535.0
    largest = max((float(values.max()) for _, values in _bands(image)), default=0.0)
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((limit for limit in usual if largest <= limit), largest)


def _bands(image: Image) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """The values of some rows after others, and the row at which they begin; what is no number is 0."""
    import numpy as np

    width, height = image.size
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        band = np.asarray(image.crop((0, top, width, min(top + step, height)))).astype(np.float64)
        yield top, np.nan_to_num(band, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _band_to_8_bits(values: npt.NDArray[np.float64], white: float) -> Image:
    import numpy as np
    from PIL.Image import fromarray

    return fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))
