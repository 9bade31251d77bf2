"""What ``PhotoIndex`` returns: a list of matches that shows its pictures in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from html import escape

from crossmodal.match import Match
from crossmodal.query.request import Target
from crossmodal.records import IMAGE

__all__ = ["Results"]

_CARD = "display:inline-block;width:180px;margin:6px;vertical-align:top;font:13px/1.35 system-ui,sans-serif"
_PICTURE = "width:180px;height:180px;object-fit:contain;background:#f2f2f2;display:block;margin-bottom:4px"


class Results(list[Match]):
    """The matches of one query, best first.

    ``modality`` is what was searched, and ``has_more`` says whether there are matches behind these. In a
    notebook they show as pictures with their scores.
    """

    def __init__(
        self,
        matches: Iterable[Match] = (),
        *,
        modality: Target | None = None,
        has_more: bool = False,
        thumbnail: Callable[[str], bytes | None] = lambda photo_id: None,
    ) -> None:
        super().__init__(matches)
        self.modality = modality
        self.has_more = has_more
        self._thumbnail = thumbnail

    def _repr_html_(self) -> str:
        """The matches as HTML, for notebooks: all text is escaped, and no script is in it."""
        if not self:
            return "<p>Nothing was found.</p>"
        return f"<div>{''.join(map(self._card, self))}</div>"

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
