"""Untrusted bytes to upright RGB pixels, to what a model sees of them, and to thumbnails.

``decode_image`` and ``decode_reduced`` decode in this process. ``pool`` does it in processes of its own, for
bytes of strangers.
"""

from __future__ import annotations

from crossmodal.images.cropping import Frame
from crossmodal.images.decoding import SizedPhoto, decode_image, decode_reduced, thumbnail_of
from crossmodal.images.limits import MAX_PIXELS
from crossmodal.images.signatures import sniff_mime_type

__all__ = [
    "MAX_PIXELS",
    "Frame",
    "SizedPhoto",
    "decode_image",
    "decode_reduced",
    "sniff_mime_type",
    "thumbnail_of",
]
