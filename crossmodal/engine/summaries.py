"""What became of everything that one call of ``PhotoIndex`` was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crossmodal.engine.indexing import Indexed
from crossmodal.records import Failure

__all__ = ["AddSummary", "ArchiveSummary", "TextSummary"]


@dataclass(slots=True)
class AddSummary:
    """What became of the photos and captions of one ``PhotoIndex.add``.

    ``moved``, ``copied`` and ``restored`` (from the trash) are photos that the index had in another file.
    ``deleted`` are photos whose files are gone, and captions that their file doesn't give any more. ``kept``
    is a sentence where too many photos were gone to delete them unasked. ``warnings`` are photos that are
    used although something of them could not be read.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    moved: int = 0
    copied: int = 0
    restored: int = 0
    deleted: int = 0
    kept: str | None = None
    failures: list[Failure] = field(default_factory=list)
    warnings: list[Failure] = field(default_factory=list)

    def count(self, indexed: Iterable[Indexed | Failure]) -> None:
        """Counts what became of records, as it becomes known."""
        for item in indexed:
            if isinstance(item, Failure):
                self.failures.append(item)
            elif item.failure is not None:
                self.failures.append(item.failure)
            else:
                outcome = str(item.outcome)
                setattr(self, outcome, getattr(self, outcome) + 1)
                if item.warning is not None:
                    self.warnings.append(Failure(item.source, item.warning))


@dataclass(slots=True)
class TextSummary:
    """In how many photos ``PhotoIndex.read_texts`` looked for text, and how many of them have some."""

    read: int = 0
    with_text: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class ArchiveSummary:
    """How many ``photos`` (and videos) are in an archive, and which are missing, and why."""

    photos: int
    missing: list[Failure]
