"""One collection of Qdrant that follows an index."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import BackendUnavailable
from crossmodal.extras import extra_for
from crossmodal.index.following.conditions import Wanted
from crossmodal.index.following.database import Found, Position, Row
from crossmodal.index.qdrant.options import QdrantOptions
from crossmodal.index.qdrant.payload_filters import payload_filter
from crossmodal.settings import backend_token

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

__all__ = ["QdrantCollection"]

_logger = logging.getLogger(__name__)

# Where the positions of all collections lie.
_POSITIONS = "crossmodal_positions"

# Of one call; the client takes whole seconds.
_SECONDS = 2

_OPEN_A_FOLDER = "open its folder, which one process at a time can use"

_ROWS_A_CALL = 256
_MOST = 16_384


class QdrantCollection:
    """The collection ``name`` at ``address``, a URL, or a folder where ``local``.

    Raises MissingExtra, and ``BackendUnavailable`` where a folder is open in another process.
    """

    negates = True
    most = _MOST

    def __init__(self, address: str, name: str, options: QdrantOptions, *, local: bool) -> None:
        with extra_for("--backend qdrant"):
            import qdrant_client
        self._options = options
        self._name = name
        self._local = address if local else None
        self.exact = options.exact
        self.made_with = options.made_with
        self._lock: AbstractContextManager[object] = nullcontext()
        with _reported("connect" if not local else _OPEN_A_FOLDER):
            if local:
                self._client, self._lock = _folders.take(address)
            else:
                self._client = qdrant_client.QdrantClient(
                    url=address,
                    api_key=backend_token() or None,
                    timeout=_SECONDS,
                    check_compatibility=False,
                )

    def position(self) -> Position | None:
        """What ``note`` was given last; None where there is no such collection."""
        with self._answering("read its position") as client:
            if not client.collection_exists(_POSITIONS) or not client.collection_exists(self._name):
                return None
            found = client.retrieve(_POSITIONS, [self._place], with_payload=True)
        return Position.from_text((found[0].payload or {}).get("position", "")) if found else None

    def note(self, position: Position) -> None:
        """Stores the position, after all that was written before."""
        from qdrant_client import models

        payload = {"name": self._name, "position": position.to_text()}
        with self._answering("note its position") as client:
            point = models.PointStruct(id=self._place, vector=[1.0], payload=payload)
            client.upsert(_POSITIONS, [point], wait=True)

    def reset(self, width: int) -> None:
        """Makes the collection, empty, and in the place of one that was there; forgets the position."""
        from qdrant_client import models

        options = self._options
        with self._answering("make a collection") as client:
            if not client.collection_exists(_POSITIONS):
                client.create_collection(
                    _POSITIONS, models.VectorParams(size=1, distance=models.Distance.DOT)
                )
            client.delete(_POSITIONS, [self._place], wait=True)
            client.delete_collection(self._name)
            client.create_collection(
                self._name,
                models.VectorParams(size=width, distance=models.Distance.DOT),
                # A graph of no links is none.
                hnsw_config=models.HnswConfigDiff(
                    m=0 if options.exact else options.m, ef_construct=options.ef_construct
                ),
                quantization_config=_quantisation(options),
            )
            if self._local is None:
                client.create_payload_index(self._name, "values", models.PayloadSchemaType.KEYWORD)

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows, and replaces those that are there."""
        from qdrant_client import models

        for start in range(0, len(rows), _ROWS_A_CALL):
            points = [
                models.PointStruct(
                    id=row.row,
                    vector=row.vector.tolist(),
                    payload={"values": list(row.values), "least": row.least, "most": row.most},
                )
                for row in rows[start : start + _ROWS_A_CALL]
            ]
            with self._answering("write") as client:
                client.upsert(self._name, points, wait=True)

    def remove(self, rows: Sequence[int]) -> None:
        """Removes rows; some may not be there."""
        for start in range(0, len(rows), _MOST):
            with self._answering("delete") as client:
                client.delete(self._name, list(rows[start : start + _MOST]), wait=True)

    def count(self) -> int:
        """How many rows there are now."""
        with self._answering("count") as client:
            return client.count(self._name, exact=True).count

    def search(
        self, queries: NDArray[np.float32], limit: int, wanted: Wanted | None, *, fresh: bool
    ) -> list[Found]:
        """The ``limit`` nearest rows that fulfil ``wanted``, of each query (n, dimension).

        A write is seen as soon as it was acknowledged, ``fresh`` or not.
        """
        from qdrant_client import models

        options = self._options
        quantised = options.quantisation != "none"
        # The local mode compares all vectors, whatever is asked for.
        parameters = (
            None
            if self._local
            else models.SearchParams(
                exact=options.exact,
                hnsw_ef=None if options.exact else max(options.ef, limit),
                quantization=models.QuantizationSearchParams(rescore=True, oversampling=options.oversampling)
                if quantised
                else None,
            )
        )
        condition = None if wanted is None else payload_filter(wanted)
        requests = [
            models.QueryRequest(query=query, filter=condition, params=parameters, limit=limit)
            for query in queries.tolist()
        ]
        with self._answering("search") as client:
            answers = client.query_batch_points(self._name, requests)
        return [
            Found([int(point.id) for point in answer.points], [point.score for point in answer.points])
            for answer in answers
        ]

    def close(self) -> None:
        """Lets go of the connection."""
        if self._local is not None:
            _folders.give_back(self._local)
            return
        with self._answering("close") as client:
            client.close()

    @property
    def _place(self) -> str:
        """The id of the position: one that follows from the name."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self._name))

    @contextmanager
    def _answering(self, what: str) -> Iterator[QdrantClient]:
        with _reported(what), self._lock:
            yield self._client


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # What the client and its transports raise has no common base. The address stays in the log.
        _logger.info("Qdrant could not %s: %s", what, error)
        raise BackendUnavailable(
            f"Qdrant, which --backend names, could not {what} ({type(error).__name__}). It is tried again; "
            "nothing is lost meanwhile."
        ) from error


def _quantisation(options: QdrantOptions) -> models.ScalarQuantization | models.BinaryQuantization | None:
    from qdrant_client import models

    if options.quantisation == "scalar":
        config = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        return models.ScalarQuantization(scalar=config)
    if options.quantisation == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None


class _Folders:
    """The clients of folders: one a folder, shared by all collections of this process, one call at a time."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._open: dict[str, tuple[QdrantClient, threading.RLock]] = {}
        self._users: dict[str, int] = {}

    def take(self, path: str) -> tuple[QdrantClient, threading.RLock]:
        """The client of a folder and its lock; ``give_back`` it."""
        from qdrant_client import QdrantClient

        with self._changing:
            if path not in self._open:
                # Its SQLite file is used by any thread, but by one at a time.
                client = QdrantClient(path=path, force_disable_check_same_thread=True)
                self._open[path], self._users[path] = (client, threading.RLock()), 0
            self._users[path] += 1
            return self._open[path]

    def give_back(self, path: str) -> None:
        """Closes the client after the last of its users."""
        with self._changing:
            self._users[path] -= 1
            if not self._users[path]:
                client, lock = self._open.pop(path)
                with lock:
                    client.close()


_folders = _Folders()
