"""The merged picture of a PSD, also of one with 16 bits a channel, which Pillow does not read."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import IO, TYPE_CHECKING

from PIL.Image import Resampling
from PIL.PsdImagePlugin import PsdImageFile

from crossmodal.images.late_photo import LatePhoto

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["deep_psd_bytes", "open_psd"]

# Where the header has the width, and the bits of a channel ("Adobe Photoshop File Formats Specification").
_WIDTH, _DEPTH = 18, 22


def open_psd(file: BytesIO) -> Image:
    """The image with its header read; raises what Pillow raises."""
    (depth,) = struct.unpack(">H", file.getvalue()[_DEPTH : _DEPTH + 2].rjust(2, b"\0"))
    return _DeepPsd(file) if depth == 16 else PsdImageFile(file)


def deep_psd_bytes(image: Image, size: tuple[int, int]) -> int:
    """What 16 bits a channel take beside the image: all bytes of them, twice."""
    return 16 * size[0] * size[1] if isinstance(image, _DeepPsd) else 0


class _DeepPsd(LatePhoto):
    """Read as 8 bits a channel and twice the width, where every other column has the high bytes."""

    format = "PSD"
    fp: IO[bytes]

    def _open(self) -> None:
        blob = bytearray(self.fp.read())
        (width,) = struct.unpack_from(">I", blob, _WIDTH)
        struct.pack_into(">IH", blob, _WIDTH, 2 * width, 8)
        self._wide = PsdImageFile(BytesIO(bytes(blob)))
        self._size = width, self._wide.height
        self._mode = self._wide.mode
        self.info = self._wide.info

    def _decoded(self) -> Image:
        width, height = self._size
        # The nearest to the middle of two columns is the right one, where after this step the left one is.
        shifted = self._wide.crop((-1, 0, 2 * width - 1, height))
        image = shifted.resize((width, height), Resampling.NEAREST)
        image.info = self.info
        return image
