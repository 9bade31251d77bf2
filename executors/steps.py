"""What the executors share: which documents a step still has to do, and how errors are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from docarray import DocList

from crossmodal.documents import MatchDocument, MediaDocument
from crossmodal.errors import CrossmodalError, DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.search import merge_matches
from crossmodal.settings import MAX_TOP_K

DEFAULT_TOP_K = 10

# Whoever leaves some of the matches out afterwards asks for more of them than it shows.
MAX_MATCHES = 2 * MAX_TOP_K


def pending(docs: DocList[MediaDocument]) -> list[MediaDocument]:
    """The documents that no earlier step has given an error."""
    return [doc for doc in docs if doc.error is None]


def to_encode(docs: DocList[MediaDocument]) -> list[MediaDocument]:
    """Those of them that have no embedding yet; a query may bring its own."""
    return [doc for doc in pending(docs) if doc.embedding is None]


def switched_on(value: str | bool) -> bool:
    """A switch as it comes out of a Flow's YAML.

    jina turns a text that looks like a boolean into one, and filling in a variable makes it a text again.
    """
    return str(value).lower() == "true"


def top_k_of(parameters: Mapping[str, Any] | None) -> int:
    """The number of matches asked for, from 1 to ``MAX_MATCHES``; raises DataError for anything else."""
    value = (parameters or {}).get("top_k", DEFAULT_TOP_K)
    # jina carries every number as a float.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value not in range(1, MAX_MATCHES + 1)
    ):
        raise DataError(f"top_k is {value!r}; it must be a whole number from 1 to {MAX_MATCHES}.")
    return int(value)


def filter_of(parameters: Mapping[str, Any] | None) -> Filter | None:
    """The filter that matches have to pass, None where there is none; raises FilterError for a wrong one."""
    value = (parameters or {}).get("filter")
    return None if value is None else parse_filter(value)


def keep_best(docs: DocList[MediaDocument], parameters: Mapping[str, Any] | None) -> None:
    """Merges the matches that shards left on each document: best first, cut to ``top_k``.

    A document that failed in one of its shards keeps no matches: they would not be the best.
    """
    for doc in docs:
        if doc.error is not None:
            doc.matches = None
        if doc.matches is None:
            continue
        top_k = top_k_of(parameters)
        by_id = {str(match.id): match for match in doc.matches}
        ranked = merge_matches([[(id, match.score) for id, match in by_id.items()]], top_k)
        doc.matches = DocList[MatchDocument]([by_id[id] for id, _ in ranked])


def fail_all(docs: Sequence[MediaDocument], error: CrossmodalError, *, abort: bool = False) -> None:
    """Gives every document the sentence of ``error``."""
    for doc in docs:
        doc.error = str(error)
        if abort:
            doc.aborted = True


@contextmanager
def told_on_failure(name: str) -> Iterator[None]:
    """Prints the sentence of an error that keeps an executor from starting, and which kind an unexpected one
    is; jina hides both."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, CrossmodalError) else f"{type(error).__name__}: "
        print(f"{name}: {kind}{error}", file=sys.stderr, flush=True)
        raise
