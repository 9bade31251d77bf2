"""JPEG XL, by libjxl, which tells the size before it decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.Image import fromarray

from crossmodal.images.late_photo import LatePhoto

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["JxlPhoto"]


class JxlPhoto(LatePhoto):
    """A JPEG XL file; its first frame is decoded, upright, once it is asked for."""

    format = "JXL"

    def _open(self) -> None:
        import pyjpegxl

        assert self.fp is not None
        self._blob = self.fp.read()
        found = pyjpegxl.probe(self._blob)
        self._size = found.width, found.height
        self._mode = "RGBA" if found.has_alpha else "RGB"

    def _decoded(self) -> Image:
        import numpy as np
        import pyjpegxl

        found, pixels = pyjpegxl.decode(self._blob, dtype="uint8")
        channels = len(pixels) // (found.width * found.height)
        shape = (found.height, found.width, channels)[: 2 if channels == 1 else 3]
        image = fromarray(np.frombuffer(pixels, np.uint8).reshape(shape))
        if found.icc_profile:
            image.info["icc_profile"] = found.icc_profile
        return image
