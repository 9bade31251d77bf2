"""The tables of ``docs/models.md``, made from the records: ``python -m crossmodal.models.zoo.document``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossmodal.models.zoo.names import zoo
from crossmodal.models.zoo.record import ModelRecord, Result

__all__ = ["document", "replaced"]

_BEGIN = "<!-- made by python -m crossmodal.models.zoo.document -->"
_END = "<!-- end of what was made -->"
_DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "models.md"


def document(records: Sequence[ModelRecord]) -> str:
    """The made part of the document: a table of what each model is, and one of what it is said to reach."""
    return "\n".join([*_models(records), "", *_results(records), "", *_sources(records)])


def replaced(text: str, records: Sequence[ModelRecord]) -> str:
    """``text`` with the part between the two marks rebuilt. Raises ValueError where there are no marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document has no part between {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n{document(records)}\n{_END}{after}"


def _models(records: Sequence[ModelRecord]) -> Iterator[str]:
    yield "| name | library, architecture, weights | dimension | photo | text | languages | size | licence |"
    yield "|---|---|---|---|---|---|---|---|"
    for record in records:
        weights = f" `{record.pretrained}`" if record.pretrained else ""
        size = "" if record.download_size is None else f"{record.download_size / 1e6:,.0f} MB"
        length = "any" if record.text_length is None else f"{record.text_length:,}"
        cells = (
            f"`{record.name}`",
            f"{record.library}: {record.architecture}{weights}",
            str(record.dimension),
            f"{record.preprocessing.mode} {record.preprocessing.size}",
            length,
            record.languages,
            size,
            record.licence,
        )
        yield f"| {' | '.join(cells)} |"


def _results(records: Sequence[ModelRecord]) -> Iterator[str]:
    yield "| name | Flickr30k 1K | COCO 5K | other |"
    yield "|---|---|---|---|"
    for record in records:
        others = [result for result in record.results if result.data_set not in ("flickr30k", "coco")]
        other = "; ".join(f"{result.metric} on {result.data_set}: {_both(result)}" for result in others)
        known = (_both(record.result("flickr30k")), _both(record.result("coco")), other)
        yield f"| `{record.name}` | {' | '.join(known)} |"


def _sources(records: Sequence[ModelRecord]) -> Iterator[str]:
    """Which models' numbers come from where, and what describes them; one line a source."""
    yield "Where the numbers were read:"
    yield ""
    by_source: dict[str, list[str]] = {}
    for record in records:
        by_source.setdefault(record.results_source, []).append(f"`{record.name}`")
    for source, names in by_source.items():
        yield f"- {', '.join(names)}: {source}"
    yield ""
    yield "What describes the models:"
    yield ""
    by_paper: dict[str, list[str]] = {}
    for record in records:
        by_paper.setdefault(record.source, []).append(f"`{record.name}`")
    for paper, names in by_paper.items():
        yield f"- {', '.join(names)}: {paper}"


def _both(result: Result | None) -> str:
    return "" if result is None else f"{result.text_to_image:.1f} / {result.image_to_text:.1f}"


if __name__ == "__main__":
    _DOCUMENT.write_text(replaced(_DOCUMENT.read_text(encoding="utf-8"), zoo()), encoding="utf-8")
    print(f"wrote {_DOCUMENT}", file=sys.stderr)
