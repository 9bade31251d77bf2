"""What a step of a Flow is, and what the steps of this project share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from crossmodal import limits
from crossmodal.documents import Document
from crossmodal.errors import CrossmodalError, DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.models.registry import LoadedEncoders

__all__ = [
    "TOGETHER",
    "WRITES",
    "Operation",
    "Step",
    "StepContext",
    "fail_all",
    "filter_of",
    "pending",
    "switched_on",
    "to_encode",
    "top_k_of",
]

Operation = Literal["index", "update", "forget", "delete", "search", "rerank", "encode", "status"]

# Those that change the index, in the order in which they came.
WRITES: tuple[Operation, ...] = ("index", "update", "forget", "delete")

# A parameter of searches: the documents of a request are encoded as one batch, which is quicker and changes
# the last bits of their vectors. Without it each one's vector is the same whatever comes with it.
TOGETHER = "together"

DEFAULT_TOP_K = 10

# Who leaves some of the matches out afterwards asks for more of them than it shows.
MAX_MATCHES = 2 * limits.TOP_K.most


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where a step stands: its ``name`` in the YAML, its shard's number and how many there are.

    Steps that run in one process share the encoders that are ``loaded``.
    """

    name: str
    shard: int = 0
    shards: int = 1
    loaded: LoadedEncoders = field(default_factory=LoadedEncoders)


class Step:
    """One step of a Flow: changes documents in place, in the method named after the operation.

    A step has the methods of those operations at which it has work to do; documents pass it unchanged at the
    others. ``parameters`` are those of the request, such as ``top_k``. Such a method may also return
    documents, which are then passed on instead. The YAML's ``uses_with`` comes as named arguments.

    ``concurrency`` is how many requests a step works on at once (None: as many as there are). Requests that
    write pass a step with ``writes`` in the order in which they came to the Flow. ``spent`` names fields that
    no step after this one reads, so that they need not be sent to other processes.
    """

    writes: ClassVar[bool] = False
    spent: ClassVar[tuple[str, ...]] = ()

    def __init__(self, context: StepContext) -> None:
        self.context = context

    @property
    def concurrency(self) -> int | None:
        """How many requests it works on at once; None: any number."""
        return None

    @property
    def superseded(self) -> bool:
        """Whether what it writes to was deleted or replaced on disk."""
        return False

    def prepare(self) -> None:
        """Loads now what the first request would load."""

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Brings documents into the index."""

    def update(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Stores what is new of documents of which the index has the content."""

    def forget(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Forgets files that are gone, and with them photos that lie nowhere else."""

    def delete(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Deletes documents from the index."""

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Gives queries their matches."""

    def rerank(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Says how well the documents that queries want fit them."""

    def encode(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Gives documents their embeddings."""

    def status(self, docs: list[Document], parameters: Mapping[str, Any]) -> list[Document] | None:
        """Adds what a shard knows of itself to ``shard_states``."""

    def close(self) -> None:
        """Lets go of files and threads."""


def pending(docs: Sequence[Document]) -> list[Document]:
    """The documents that no earlier step has given an error."""
    return [doc for doc in docs if doc.error is None]


def to_encode(docs: Sequence[Document]) -> list[Document]:
    """Those of them that have no embedding yet; a query may bring its own."""
    return [doc for doc in docs if doc.error is None and doc.embedding is None]


def switched_on(value: str | bool) -> bool:
    """A switch as it comes out of a Flow's YAML, where filling in a variable makes a text of it."""
    return str(value).lower() == "true"


def top_k_of(parameters: Mapping[str, Any]) -> int:
    """The number of matches asked for, from 1 to ``MAX_MATCHES``; raises DataError for anything else."""
    value = parameters.get("top_k", DEFAULT_TOP_K)
    # Between processes every number is a float.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != int(value)
        or not 1 <= value <= MAX_MATCHES
    ):
        raise DataError(f"top_k is {value!r}; it must be a whole number from 1 to {MAX_MATCHES}.")
    return int(value)


def filter_of(parameters: Mapping[str, Any]) -> Filter | None:
    """The filter that matches have to pass, None where there is none; raises FilterError for a wrong one."""
    value = parameters.get("filter")
    return value if value is None or isinstance(value, Filter) else parse_filter(value)


def fail_all(docs: Sequence[Document], error: CrossmodalError, *, abort: bool = False) -> None:
    """Gives every document the sentence of ``error``."""
    for doc in docs:
        doc.error = str(error)
        if abort:
            doc.aborted = type(error).__name__
