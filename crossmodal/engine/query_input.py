"""What a person hands over as a query - a file, bytes, a PIL image, an array - to the term that it is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.data_sets.photos import read_photo_file
from crossmodal.errors import DataError
from crossmodal.query.terms import Term

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    PhotoInput = str | Path | bytes | Image | NDArray[np.uint8]

__all__ = ["PhotoInput", "photo_bytes", "term_of"]

if not TYPE_CHECKING:
    PhotoInput = Any


def term_of(query: Any) -> Term:
    """A sentence (str), a photo (Path, bytes, PIL image, pixels) or a vector as a term.

    An array of one dimension is a vector, float (dimension,); pixels are uint8 (height, width, 3). Raises
    DataError for anything else, and for a file that is missing or no photo.
    """
    if isinstance(query, str):
        if not query.strip():
            raise DataError("The query is empty; write at least one word.")
        return Term(text=query)
    if getattr(query, "ndim", None) == 1:
        return Term(vector=query)
    return Term(image=photo_bytes(query))


def photo_bytes(photo: Any) -> bytes:
    """The bytes of a photo's file: as they are, read from a path, or made (PNG) of an image or its pixels.

    Raises DataError for a file that cannot be read, and for what is no photo.
    """
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | Path):
        return read_photo_file(Path(photo))
    shape, dtype = getattr(photo, "shape", None), getattr(photo, "dtype", None)
    from PIL import Image, ImageOps

    if shape is not None:
        if len(shape) != 3 or shape[2] != 3 or str(dtype) != "uint8" or 0 in shape:
            raise DataError(
                f"The array has the shape {tuple(shape)} and the type {dtype}; pixels are uint8 of shape "
                "(height, width, 3), and a vector is of shape (dimension,)."
            )
        photo = Image.fromarray(photo)
    if not isinstance(photo, Image.Image):
        raise DataError(
            f"A {type(photo).__name__} is no query; give a sentence, a path, the bytes of a photo, a PIL "
            "image, pixels or a vector."
        )
    written = BytesIO()
    # PNG keeps every pixel, so that the vector is that of this very image.
    ImageOps.exif_transpose(photo).convert("RGB").save(written, "PNG", compress_level=1)
    return written.getvalue()
