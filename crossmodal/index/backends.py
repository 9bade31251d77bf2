"""Which backend searches the vectors of an index, by the address that ``--backend`` names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.errors import SettingsError
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.vector_source import VectorSource

if TYPE_CHECKING:
    from crossmodal.index.protocols import VectorIndex

__all__ = ["Backend", "open_vector_index"]

_FORMS = (
    "embedded, milvus+http://HOST:19530, milvus:FILE.db (Milvus Lite), qdrant+http://HOST:6333 or "
    "qdrant:FOLDER"
)

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

    given = (backend_options or {}).get(wanted.kind, {})
    name = _collection_name(source)
    if wanted.kind == "milvus":
        from crossmodal.index.milvus.collection import MilvusCollection
        from crossmodal.index.milvus.options import MilvusOptions

        of_milvus = MilvusOptions.of(given, lite=wanted.local)
        connect = partial(MilvusCollection, wanted.address, name, of_milvus, lite=wanted.local)
        return FollowedIndex(
            source,
            name,
            connect,
            kind=f"milvus {of_milvus.index}",
            where="Milvus Lite" if wanted.local else "Milvus",
            exact=of_milvus.exact,
        )
    from crossmodal.index.qdrant.collection import QdrantCollection
    from crossmodal.index.qdrant.options import QdrantOptions

    of_qdrant = QdrantOptions.of(given)
    return FollowedIndex(
        source,
        name,
        partial(QdrantCollection, wanted.address, name, of_qdrant, local=wanted.local),
        kind=f"qdrant {of_qdrant.index}",
        where="Qdrant",
        exact=of_qdrant.exact,
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
