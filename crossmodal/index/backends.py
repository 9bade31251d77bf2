"""Which backend searches the vectors of an index, by the address that ``--backend`` names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossmodal.errors import SettingsError
from crossmodal.extras import extra_for
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.vector_source import VectorSource

if TYPE_CHECKING:
    from crossmodal.index.following.database import VectorDatabase
    from crossmodal.index.protocols import VectorIndex

__all__ = ["Backend", "open_vector_index", "seen_backend"]

_FORMS = (
    "embedded, milvus+http://HOST:19530, milvus:FILE.db (Milvus Lite), qdrant+http://HOST:6333 or "
    "qdrant:FOLDER"
)

_CLIENTS = {"milvus": "pymilvus", "qdrant": "qdrant_client"}

_LITE_NAME = re.compile(r"[A-Za-z0-9._-]{1,35}")


@dataclass(frozen=True, slots=True)
class Backend:
    """``kind`` is embedded, milvus or qdrant; ``address`` a URL, or the path of a ``local`` one."""

    kind: str
    address: str = ""
    local: bool = False

    @classmethod
    def of(cls, text: str) -> Backend:
        """What ``text`` names; raises SettingsError for anything that isn't one of the forms."""
        if text in ("", "embedded"):
            return cls("embedded")
        kind, joint, address = text.partition("+")
        if joint and kind in ("milvus", "qdrant") and address.startswith(("http://", "https://")):
            if "@" in address:
                raise SettingsError(
                    "--backend has a name or a password in its address, where it can be seen by others. Set "
                    "the variable CROSSMODAL_BACKEND_TOKEN instead."
                )
            return cls(kind, address)
        kind, joint, path = text.partition(":")
        if text.endswith(".db") and not joint:
            kind, path = "milvus", text
        if kind == "milvus" and path.endswith(".db"):
            if not _LITE_NAME.fullmatch(Path(path).name):
                raise SettingsError(
                    f"--backend is {text!r}, but Milvus Lite takes files whose names are at most 35 letters, "
                    "digits, dots, hyphens and underscores."
                )
            return cls(kind, str(Path(path).expanduser().absolute()), local=True)
        if kind == "qdrant" and path and not path.startswith("//"):
            return cls(kind, str(Path(path).expanduser().absolute()), local=True)
        raise SettingsError(f"--backend is {text!r}; it must be {_FORMS}.")


def open_vector_index(
    source: VectorSource,
    options: SearchOptions,
    backend: str = "embedded",
    backend_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> VectorIndex:
    """The vectors of ``source`` in the backend that is named, with those of ``backend_options`` for its kind.

    A database that is away is no error here: searches say so until it answers. Raises SettingsError for a
    backend or an option that there isn't, MissingExtra, StoreError where the index cannot be read.
    """
    wanted = Backend.of(backend)
    if wanted.kind == "embedded":
        # faiss is loaded only to search.
        from crossmodal.index.embedded.vector_index import VectorIndex

        return VectorIndex(source, options=options)
    from crossmodal.index.following.vector_index import FollowedIndex

    followed = _followed(source, wanted, backend_options or {})
    return FollowedIndex(
        source,
        followed.name,
        followed.connect,
        kind=followed.kind,
        where=followed.where,
        exact=followed.exact,
    )


def seen_backend(
    source: VectorSource, backend: str, backend_options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """How the vector database ``backend`` stands, which isn't embedded: the ``backend_state``.

    It is asked once, for four seconds at most, and nothing is brought there; a local one that isn't there is
    not made. Raises as ``open_vector_index``.
    """
    from crossmodal.index.following.state import seen_state

    wanted = Backend.of(backend)
    with extra_for(f"--backend {wanted.kind}"):
        # Before it is timed: it takes seconds where much else runs.
        import_module(_CLIENTS[wanted.kind])
    followed = _followed(source, wanted, backend_options or {})
    there = not wanted.local or Path(wanted.address).exists()
    return seen_state(source, followed.connect if there else None, followed.where, local=wanted.local)


class _Followed(NamedTuple):
    """A collection of a vector database: its ``name``, what opens it, and what it is to ``FollowedIndex``."""

    name: str
    connect: Callable[[], VectorDatabase]
    kind: str
    where: str
    exact: bool


def _followed(source: VectorSource, wanted: Backend, options: Mapping[str, Mapping[str, Any]]) -> _Followed:
    given = options.get(wanted.kind, {})
    name = _collection_name(source)
    if wanted.kind == "milvus":
        from crossmodal.index.milvus.collection import MilvusCollection
        from crossmodal.index.milvus.options import MilvusOptions

        of_milvus = MilvusOptions.of(given, lite=wanted.local)
        return _Followed(
            name,
            partial(MilvusCollection, wanted.address, name, of_milvus, lite=wanted.local),
            f"milvus {of_milvus.index}",
            "Milvus Lite" if wanted.local else "Milvus",
            of_milvus.exact,
        )
    from crossmodal.index.qdrant.collection import QdrantCollection
    from crossmodal.index.qdrant.options import QdrantOptions

    of_qdrant = QdrantOptions.of(given)
    return _Followed(
        name,
        partial(QdrantCollection, wanted.address, name, of_qdrant, local=wanted.local),
        f"qdrant {of_qdrant.index}",
        "Qdrant",
        of_qdrant.exact,
    )


def _collection_name(source: VectorSource) -> str:
    """Another one for each index, place, model, modality and shard, so that none can be mixed up.

    A copy of an index has the identity of the original, but lies elsewhere.
    """
    with source.connections.read() as connection:
        held = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('id', 'model')"))
    said = "\n".join([str(held.get("id")), str(held.get("model")), str(source.folder.resolve())])
    digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    shard = "" if source.shards == 1 else f"_{source.shard}_of_{source.shards}"
    return f"crossmodal_{source.modality}_{digest}{shard}"
