"""Works in parts for many workers, and their answers in the order in which the works came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crossmodal.bulk.preparing import Answer, Done
from crossmodal.data_sets.mentions import Mention, Work
from crossmodal.data_sets.prepared import LeftOut, Source
from crossmodal.errors import ServiceError
from crossmodal.records import Failure

__all__ = ["Item", "Part", "Said", "merged", "waves"]

# Photos that a worker gets at once, and another one where it is lost; a shard is the last of its part.
_PART = 64

# So many parts are one execution of Ray Data, which is told of all of them at its beginning, and so many
# items that need no worker are held back while parts are collected.
_WAVE = 1024
_HELD = 1 << 16

# What a ``Reader`` is given.
Item = Work | Mention | Failure


@dataclass(slots=True)
class Part:
    """Some items in their order; those in ``works`` go to a worker."""

    items: list[Item] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    is_full: bool = False

    def add(self, item: Item) -> None:
        """Takes in one more, after which the part may be full."""
        self.items.append(item)
        if isinstance(item, Work):
            self.works.append(item)
            is_shard = isinstance(item.source, Source) and item.source.is_shard
            self.is_full = is_shard or len(self.works) == _PART


class Said(NamedTuple):
    """An answer of a worker, and the number of the part that it belongs to."""

    part: int
    answer: Answer


def waves(items: Iterator[Item]) -> Iterator[list[Part]]:
    """All items in parts, and so many parts together as are told to the workers at once."""
    wave, held = [Part()], 0
    for item in items:
        wave[-1].add(item)
        held += 1
        if wave[-1].is_full and len(wave) < _WAVE:
            wave.append(Part())
        elif wave[-1].is_full or held == _HELD:
            yield wave
            wave, held = [Part()], 0
    yield wave


def merged(parts: Sequence[Part], answers: Iterator[Said]) -> Iterator[Mention | Failure | LeftOut]:
    """All items of the parts in their order, works as what was answered to them.

    Raises ServiceError where an answer is missing or comes in another place, so that nothing is lost unseen.
    """
    for number, part in enumerate(parts):
        work = 0
        for item in part.items:
            if not isinstance(item, Work):
                yield item
                continue
            for said in answers:
                if said.part != number or (isinstance(said.answer, Done) and said.answer.number != work):
                    raise ServiceError("Ray answered in another order; run the same command again.")
                if isinstance(said.answer, Done):
                    break
                yield said.answer
            else:
                raise ServiceError("Ray ended before all photos were read; run the same command again.")
            work += 1
