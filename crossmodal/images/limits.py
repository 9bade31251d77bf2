"""What a photo may be, and what decoding it may take: every limit of this package."""

from __future__ import annotations

from crossmodal.machine import available_memory

__all__ = [
    "FIRST_GRANT_BYTES",
    "MAX_ASPECT",
    "MAX_DECODE_WORKERS",
    "MAX_FRAMES",
    "MAX_PIXELS",
    "MAX_PROFILE_BYTES",
    "MAX_SIDE",
    "MEGABYTE",
    "MIN_DECODE_MEMORY",
    "decode_seconds",
    "default_decode_memory",
]

MEGABYTE = 1 << 20

# A decompression bomb is a small file that unpacks to a huge image. About 180 megapixels (537 MB as RGB) is
# more than any camera takes; it is also the size at which Pillow refuses by default.
MAX_PIXELS = 178_956_970

# The longest side that a JPEG can have.
MAX_SIDE = 65_535

# The long side to the short one; the widest panoramas have 30. A row of an image takes memory of its own
# beside its pixels.
MAX_ASPECT = 2_000

# Of an animation, as its header says; only the first frame is ever decoded.
MAX_FRAMES = 10_000

# Of a colour profile. Those of displays have some kilobytes, those of presses up to three megabytes.
MAX_PROFILE_BYTES = 4 * MEGABYTE

# What a decoder gets unasked: enough for a photo of some megapixels, so that few of them have to ask.
FIRST_GRANT_BYTES = 32 * MEGABYTE

# Less than this holds no photo of a telephone.
MIN_DECODE_MEMORY = 64 * MEGABYTE

# The default is a quarter of the memory, within these bounds: the model and the index need the rest.
_LEAST_DEFAULT = 128 * MEGABYTE
_MOST_DEFAULT = 2048 * MEGABYTE

# More than these keep no encoder busier.
MAX_DECODE_WORKERS = 16

_DECODE_SECONDS = 10.0
_PIXELS_A_SECOND = 5_000_000


def default_decode_memory() -> int:
    """How many bytes all decoding together may take where no option says so."""
    return min(max(available_memory() // 4, _LEAST_DEFAULT), _MOST_DEFAULT)


def decode_seconds(pixels: int) -> float:
    """How long decoding may take before its process is ended: ten times what a slow core needs."""
    return _DECODE_SECONDS + pixels / _PIXELS_A_SECOND
