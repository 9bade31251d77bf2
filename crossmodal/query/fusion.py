"""One ranking of several, by reciprocal rank fusion; near-duplicates and bursts grouped under their best.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods" (2009): a document's score is the sum of 1 / (60 + rank) over the rankings that it is in. Only ranks
count, so that cosines and BM25 scores need not be comparable.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from crossmodal.query.bursts import LEAST_BURST_COSINE, Shot
from crossmodal.records import IMAGE, TEXT, Modality

__all__ = [
    "LEAST_LIKENESS",
    "RANK_CONSTANT",
    "THRESHOLDS",
    "Fused",
    "Group",
    "fuse",
    "group",
    "normalised_text",
    "reciprocal",
]

# The k of the paper, found there to be good for rankings of any kind.
RANK_CONSTANT = 60


@dataclass(frozen=True, slots=True)
class Fused:
    """A document with its rank in each ranking, 1 the best and None where it isn't in it, and its score."""

    id: str
    vector_rank: int | None
    word_rank: int | None
    score: float
    text_rank: int | None = None


def fuse(vector_ids: Iterable[str], word_ids: Iterable[str], text_ids: Iterable[str] = ()) -> list[Fused]:
    """Every document of the rankings (ids, best first), the best fused score first and ties by id.

    Of an id that stands twice in one ranking the better place counts, and the other is no place.
    """
    by_vector, by_words, by_texts = _ranks(vector_ids), _ranks(word_ids), _ranks(text_ids)
    fused = []
    for id in by_vector | by_words | by_texts:
        vector_rank, word_rank, text_rank = ranks = by_vector.get(id), by_words.get(id), by_texts.get(id)
        score = sum(reciprocal(rank) for rank in ranks if rank is not None)
        fused.append(Fused(id, vector_rank, word_rank, score, text_rank))
    return sorted(fused, key=lambda one: (-one.score, one.id))


def reciprocal(rank: int) -> float:
    """What a place in one ranking, 1 the best, adds to a document's score."""
    return 1 / (RANK_CONSTANT + rank)


def _ranks(ids: Iterable[str]) -> dict[str, int]:
    return {id: rank for rank, id in enumerate(dict.fromkeys(ids), start=1)}


# The least cosine of two results that may count as one, and of captions do: those above 0.98 differ in an
# article or an adjective. Of photos it only keeps most pairs from being compared by their pixels: of 70
# photos, saved again at quality 60, as WebP, brightened by a fifth or with 2% cut off each side, all stayed
# above it.
THRESHOLDS: dict[Modality, float] = {IMAGE: 0.85, TEXT: 0.98}

# The least likeness of two photos (``images.likeness``) that count as one. Of 100 photos, saved again, at a
# quarter of the size, brightened, in grey or with 2% cut off each side, all reached it, of those with 5% cut
# off 99; and none of 441 pairs of different photos that one person took of one scene, up to 0.91.
LEAST_LIKENESS = 0.94

_NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Group:
    """A result and those that repeat it, best first."""

    id: str
    duplicates: tuple[str, ...] = ()


def group(
    ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    modalities: Sequence[Modality],
    texts: Sequence[str | None],
    same_picture: Callable[[str, str], bool] = lambda one, other: True,
    shots: Sequence[Shot | None] = (),
    wholes: Sequence[str | None] = (),
) -> list[Group]:
    """Groups ranked results, best first; each joins the first better one that it repeats.

    It repeats a result of its own modality that leads a group if their ``vectors`` (n, dimension), of unit
    length, have a cosine of at least that modality's threshold and, where they are photos, are the
    ``same_picture`` (asked with their ids), or if both are captions with the same words, or photos of one
    burst by their ``shots``, where any are given, with a cosine of at least LEAST_BURST_COSINE. What is part
    of a whole, as ``wholes`` says where any are given (None: of none), repeats the other parts of that one
    and nothing else, and nothing else repeats it.
    Only leaders are compared with, so that a chain of small differences doesn't join what differs much. The
    groups of the first k results are the beginnings of the groups of more.
    """
    if not len(ids) == len(vectors) == len(modalities) == len(texts):
        counts = f"{len(vectors)} vectors, {len(modalities)} modalities and {len(texts)} texts"
        raise ValueError(f"{len(ids)} ids need as many of everything else, not {counts}")
    members: list[list[str]] = []
    # Of each modality: the groups by number, and in the same order the vectors that lead them.
    groups: dict[Modality, list[int]] = {IMAGE: [], TEXT: []}
    leading = {modality: np.empty_like(vectors) for modality in groups}
    # By the words of captions, and by what photos are parts of.
    by_shared: dict[tuple[Modality, str], int] = {}
    # Of the photo that leads a group.
    leading_shots: dict[int, Shot] = {}
    none = [None] * len(ids)
    for id, vector, modality, text, shot, whole in zip(
        ids, vectors, modalities, texts, shots or none, wholes or none, strict=True
    ):
        numbers = groups[modality]
        shared = modality, normalised_text(text or "") if modality == TEXT else whole or ""
        cosines = leading[modality][: len(numbers) if whole is None else 0] @ vector
        near_groups = (numbers[place] for place in np.flatnonzero(cosines >= THRESHOLDS[modality]).tolist())
        if modality == IMAGE:
            near_groups = (number for number in near_groups if same_picture(members[number][0], id))
        repeated = list(islice(near_groups, 1))
        if shared in by_shared:
            repeated.append(by_shared[shared])
        if shot is not None:
            near = (numbers[place] for place in np.flatnonzero(cosines >= LEAST_BURST_COSINE).tolist())
            of_burst = (number for number in near if shot.same_burst(leading_shots.get(number)))
            repeated.extend(islice(of_burst, 1))
        if repeated:
            members[min(repeated)].append(id)
        else:
            if whole is None:
                leading[modality][len(numbers)] = vector
                if shot is not None:
                    leading_shots[len(members)] = shot
                numbers.append(len(members))
            members.append([id])
        if shared[1]:
            by_shared.setdefault(shared, min(repeated, default=len(members) - 1))
    return [Group(first, tuple(others)) for first, *others in members]


def normalised_text(text: str) -> str:
    """The words of ``text`` alone: compatibility forms (NFKC), case and punctuation don't count."""
    return " ".join(_NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())
