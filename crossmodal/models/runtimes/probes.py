"""Photos and sentences on which the forms of a tower are compared.

``probes/photos.jpg`` is one sheet of squares: the photos of ``data/toy-data`` (public domain or CC0; their
sources stand in ``SOURCES.csv`` there), each squeezed into a square, and details of five of them.
``probes/sentences.txt`` holds a sentence a line, from one word to more than twenty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["photo_probes", "sentence_probes"]

_FOLDER = Path(__file__).parent / "probes"

# The side of a square of the sheet, in pixels.
_SIDE = 224


def photo_probes(preprocessing: ImagePreprocessing) -> npt.NDArray[np.uint8]:
    """The squares that a model sees of twenty photos: uint8 (20, size, size, 3)."""
    from crossmodal.images import decode_image

    sheet = decode_image((_FOLDER / "photos.jpg").read_bytes())
    return np.stack(
        [
            preprocessing.crop(sheet[top : top + _SIDE, left : left + _SIDE])
            for top in range(0, len(sheet), _SIDE)
            for left in range(0, sheet.shape[1], _SIDE)
        ]
    )


def sentence_probes() -> list[str]:
    """Forty English sentences of different lengths."""
    return (_FOLDER / "sentences.txt").read_text(encoding="utf-8").splitlines()
