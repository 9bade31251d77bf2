"""What ``PhotoIndex`` takes as a query, and what it returns: matches that a notebook shows as pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crossmodal.data_sets.photos import read_photo_file
from crossmodal.errors import DataError
from crossmodal.match import Match
from crossmodal.query.expression import Term
from crossmodal.query.request import Reranked, SearchOutcome, Target
from crossmodal.records import IMAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from crossmodal.query.recognition import Recognised

    PhotoInput = str | Path | bytes | Image | NDArray[np.uint8]

__all__ = ["PhotoInput", "Results", "photo_bytes", "term_of"]

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


_CARD = "display:inline-block;width:180px;margin:6px;vertical-align:top;font:13px/1.35 system-ui,sans-serif"
_PICTURE = "width:180px;height:180px;object-fit:contain;background:#f2f2f2;display:block;margin-bottom:4px"


class Results(list[Match]):
    """The matches of one query, best first.

    ``modality`` is what was searched, and ``has_more`` says whether there are matches behind these,
    ``truncated`` that fewer came than were asked for because they were too many bytes (``limits``).
    ``recognised`` are the filters that words of the query became, and ``reranked`` says what became of a
    second stage. ``fits`` says whether the best match fits
    the query (None: not known), ``doubt`` why not. In a notebook they show as pictures with their scores.
    """

    def __init__(
        self,
        matches: Iterable[Match] = (),
        *,
        modality: Target | None = None,
        has_more: bool = False,
        truncated: bool = False,
        recognised: Sequence[Recognised] = (),
        reranked: Reranked | None = None,
        fits: bool | None = None,
        doubt: str | None = None,
        thumbnail: Callable[[str], bytes | None] = lambda photo_id: None,
    ) -> None:
        super().__init__(matches)
        self.modality = modality
        self.has_more = has_more
        self.truncated = truncated
        self.recognised = tuple(recognised)
        self.reranked = reranked
        self.fits = fits
        self.doubt = doubt
        self._thumbnail = thumbnail

    @classmethod
    def of(cls, outcome: SearchOutcome, thumbnail: Callable[[str], bytes | None]) -> Self:
        """What the engine found; ``thumbnail`` gives the small JPEG of a photo by its id."""
        return cls(
            outcome.matches,
            modality=outcome.modality,
            has_more=outcome.has_more,
            truncated=outcome.truncated,
            recognised=outcome.recognised,
            reranked=outcome.reranked,
            fits=outcome.fits,
            doubt=outcome.doubt,
            thumbnail=thumbnail,
        )

    def _repr_html_(self) -> str:
        """The matches as HTML, for notebooks: all text is escaped, and no script is in it."""
        if not self:
            return "<p>Nothing was found.</p>"
        doubt = "" if self.doubt is None else f"<p>{escape(self.doubt)}</p>"
        return f"<div>{doubt}{''.join(map(self._card, self))}</div>"

    def _card(self, match: Match) -> str:
        score = f"{match.cosine:.3f}" if match.score is None else f"{match.score:.0%}"
        words = match.text or (match.captions[0][1] if match.captions else match.file) or match.id
        return (
            f'<figure style="{_CARD}">{self._picture(match)}'
            f"<figcaption><b>{score}</b> {escape(words)}</figcaption></figure>"
        )

    def _picture(self, match: Match) -> str:
        photo_id = match.id if match.modality == IMAGE else match.photo_id
        thumbnail = self._thumbnail(photo_id) if photo_id else None
        if thumbnail is None:
            return ""
        data = base64.b64encode(thumbnail).decode()
        name = escape(match.file or "", quote=True)
        return f'<img style="{_PICTURE}" alt="{name}" src="data:image/jpeg;base64,{data}">'
