"""Raw files of cameras, by LibRaw: the preview that the camera made, or else what its sensor saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL.Image import fromarray

from crossmodal.errors import ImageError
from crossmodal.images.late_photo import LatePhoto

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preview", "RawPhoto", "demosaic_bytes", "preview_of"]

# A smaller preview is one for the camera's own screen.
_LEAST_PREVIEW_SIDE = 600

# The turn that LibRaw names as EXIF does; it knows no mirrors.
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}


@dataclass(frozen=True, slots=True)
class Preview:
    """The JPEG in a raw file, and the EXIF orientation that holds where it names none."""

    jpeg: bytes
    orientation: int


def preview_of(blob: bytes) -> Preview | None:
    """The largest preview; None where there is none, or none that is worth showing."""
    import rawpy

    with _opened(blob) as raw:
        try:
            found = raw.extract_thumb()
        except rawpy.LibRawError:
            return None
        orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
    if found.format != rawpy.ThumbFormat.JPEG:
        return None
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(BytesIO(found.data)) as image:
            large = min(image.size) >= _LEAST_PREVIEW_SIDE
    except (OSError, SyntaxError, ValueError):
        return None
    return Preview(found.data, orientation) if large else None


class RawPhoto(LatePhoto):
    """A raw file whose colours are made from its sensor's mosaic once they are asked for."""

    format = "RAW"

    def _open(self) -> None:
        assert self.fp is not None
        self._blob = self.fp.read()
        with _opened(self._blob) as raw:
            sizes = raw.sizes
        self._size = sizes.iwidth, sizes.iheight
        self._mode = "RGB"
        self.halved = False

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Makes one pixel of each four of the mosaic where that leaves at least ``size``."""
        width, height = self._size
        if size is not None and min(width, height) // 2 >= min(size):
            self.halved = True
            self._size = width // 2, height // 2

    def _decoded(self) -> Image:
        # Colours as the camera balanced them; upright as the camera was held.
        with _opened(self._blob) as raw:
            pixels = raw.postprocess(half_size=self.halved, use_camera_wb=True, output_bps=8)
        return fromarray(pixels)


def demosaic_bytes(image: Any, size: tuple[int, int]) -> int:
    """What LibRaw has beside the image, at most: the mosaic, four colours a pixel, and the result twice."""
    pixels = size[0] * size[1]
    of_mosaic, of_result = 4 * pixels, 16 * pixels
    return of_mosaic + (of_result // 4 if getattr(image, "halved", False) else of_result)


@contextmanager
def _opened(blob: bytes) -> Iterator[Any]:
    import rawpy

    try:
        with rawpy.imread(BytesIO(blob)) as raw:
            yield raw
    except rawpy.LibRawFileUnsupportedError as error:
        raise ImageError(
            f"The raw file of {len(blob):,} bytes is damaged, or of a camera that LibRaw "
            f"{'.'.join(map(str, rawpy.libraw_version))} does not know."
        ) from error
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError from error
    except rawpy.LibRawError as error:
        raise OSError(str(error)) from error
