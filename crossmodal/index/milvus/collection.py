"""One collection of Milvus that follows an index."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import BackendUnavailable
from crossmodal.extras import extra_for
from crossmodal.index.following.conditions import Wanted
from crossmodal.index.following.database import Found, Position, Row
from crossmodal.index.milvus.expressions import ROW, TAGS, expression
from crossmodal.index.milvus.options import MilvusOptions
from crossmodal.settings import backend_token

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["MilvusCollection"]

_logger = logging.getLogger(__name__)

# Where the positions of all collections lie: Milvus has no attributes of a collection for it.
_POSITIONS = "crossmodal_positions"

# Whole numbers: of others pymilvus makes no limit for its retries, which go on for minutes.
_CONNECT_SECONDS = 1
_SEARCH_SECONDS = 2
_WRITE_SECONDS = 20

# Rows of one call: with the longest tags 16 MB, and Milvus takes 64 MB.
_ROWS_A_CALL = 256

# Milvus takes 65,536 bytes of JSON in one field. A row with more stands for any tags; the index decides.
_MOST_TAG_BYTES = 60_000
_ANY_TAGS = "any"

# The most rows that Milvus returns for one query.
_MOST = 16_384


class MilvusCollection:
    """The collection ``name`` at ``address``, a URI or the file of Milvus Lite.

    Connects at once. Raises MissingExtra, and ``BackendUnavailable`` where the server doesn't answer.
    """

    most = _MOST

    def __init__(self, address: str, name: str, options: MilvusOptions, *, lite: bool) -> None:
        with extra_for("--backend milvus"):
            import pymilvus  # noqa: F401

        # It prints each failed call, which is reported here.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
        self._options = options
        self._name = name
        self._file = address if lite else None
        self._label = "Milvus Lite" if lite else "Milvus"
        self.exact = options.exact
        # Milvus Lite 2.4 fails at a negation.
        self.negates = not lite
        self.made_with = options.made_with
        if self._file is not None:
            _files.take(self._file)
        try:
            with self._answering("open its file, which one process at a time can use" if lite else "connect"):
                self._client = _connected(
                    address, token=backend_token(), timeout=None if lite else _CONNECT_SECONDS
                )
        except BackendUnavailable:
            if self._file is not None:
                _files.give_back(self._file)
            raise

    def position(self) -> Position | None:
        """What ``note`` was given last; None where there is no such collection."""
        with self._answering("read its position"):
            if not self._has(_POSITIONS) or not self._has(self._name):
                return None
            found = self._client.query(
                _POSITIONS,
                filter=f'name == "{self._name}"',
                output_fields=["position"],
                consistency_level="Strong",
                timeout=_WRITE_SECONDS,
            )
        return Position.from_text(found[0]["position"]) if found else None

    def note(self, position: Position) -> None:
        """Stores the position, after all that was written before."""
        with self._answering("note its position"):
            self._client.upsert(
                _POSITIONS,
                [{"name": self._name, "position": position.to_text(), "nothing": [0.0, 1.0]}],
                timeout=_WRITE_SECONDS,
            )

    def reset(self, width: int) -> None:
        """Makes the collection, empty, and in the place of one that was there; forgets the position."""
        with self._answering("make a collection"):
            if not self._has(_POSITIONS):
                self._make_positions()
            self._client.delete(_POSITIONS, ids=[self._name], timeout=_WRITE_SECONDS)
            if self._has(self._name):
                self._client.drop_collection(self._name, timeout=_WRITE_SECONDS)
            self._make_rows(width)

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows, and replaces those that are there."""
        for start in range(0, len(rows), _ROWS_A_CALL):
            part = rows[start : start + _ROWS_A_CALL]
            with self._answering("write"):
                self._client.upsert(
                    self._name,
                    [{ROW: row.row, "vector": row.vector.tolist(), TAGS: _tags(row)} for row in part],
                    timeout=_WRITE_SECONDS,
                )

    def remove(self, rows: Sequence[int]) -> None:
        """Removes rows; some may not be there."""
        for start in range(0, len(rows), _MOST):
            with self._answering("delete"):
                self._client.delete(self._name, ids=list(rows[start : start + _MOST]), timeout=_WRITE_SECONDS)

    def count(self) -> int:
        """How many rows there are now."""
        with self._answering("count"):
            found = self._client.query(
                self._name,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=_WRITE_SECONDS,
            )
        return int(found[0]["count(*)"])

    def search(
        self, queries: NDArray[np.float32], limit: int, wanted: Wanted | None, *, fresh: bool
    ) -> list[Found]:
        """The ``limit`` nearest rows that fulfil ``wanted``, of each query (n, dimension)."""
        parameters = dict(self._options.searching)
        if "ef" in parameters:
            parameters["ef"] = max(parameters["ef"], limit)
        condition = (
            ""
            if wanted is None
            else f'({expression(wanted)}) or json_contains({TAGS}["values"], "{_ANY_TAGS}")'
        )
        with self._answering("search"):
            found = self._client.search(
                self._name,
                data=queries.tolist(),
                filter=condition,
                limit=limit,
                search_params={"metric_type": "IP", "params": parameters},
                consistency_level="Strong" if fresh else self._options.consistency,
                timeout=_SEARCH_SECONDS,
            )
        return [Found([hit["id"] for hit in hits], [hit["distance"] for hit in hits]) for hits in found]

    def close(self) -> None:
        """Lets go of the connection."""
        try:
            with self._answering("close"):
                self._client.close()
        finally:
            if self._file is not None:
                _files.give_back(self._file)

    def _has(self, name: str) -> bool:
        return bool(self._client.has_collection(name, timeout=_WRITE_SECONDS))

    def _make_positions(self) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=255)
        schema.add_field("position", DataType.VARCHAR, max_length=2048)
        # A collection without a vector is refused.
        schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)
        index = MilvusClient.prepare_index_params()
        index.add_index("nothing", index_type="FLAT", metric_type="L2")
        self._client.create_collection(_POSITIONS, schema=schema, index_params=index)

    def _make_rows(self, width: int) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=width)
        schema.add_field(TAGS, DataType.JSON)
        index = MilvusClient.prepare_index_params()
        index.add_index(
            "vector",
            index_type=self._options.index,
            metric_type="IP",
            params=dict(self._options.building),
        )
        self._client.create_collection(self._name, schema=schema, index_params=index)

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # What the client and gRPC raise has no common base. The address stays in the log.
            _logger.info("%s could not %s: %s", self._label, what, error)
            code = getattr(error, "code", None)
            said = type(error).__name__ if code is None or callable(code) else f"code {code}"
            raise BackendUnavailable(
                f"{self._label}, which --backend names, could not {what} ({said}). It is tried again; "
                "nothing is lost meanwhile."
            ) from error


def _connected(address: str, **given: Any) -> MilvusClient:
    from pymilvus import MilvusClient
    from pymilvus.client.grpc_handler import GrpcHandler

    try:
        return MilvusClient(address, **given)
    except Exception as error:
        # It leaves the channel open: with a thread that polls it, and with gRPC's pause before the next try,
        # which grows to minutes and holds for each channel to the same address.
        for frame, _ in walk_tb(error.__traceback__):
            if isinstance(handler := frame.f_locals.get("self"), GrpcHandler):
                handler.close()
        raise


class _Files:
    """The processes of Milvus Lite: one a file, shared by all collections of this process."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._users: Counter[str] = Counter()

    def take(self, path: str) -> None:
        """Notes a user of the process, which its client starts."""
        with self._changing:
            self._users[path] += 1

    def give_back(self, path: str) -> None:
        """Ends the process after the last of its users."""
        from milvus_lite.server_manager import server_manager_instance

        with self._changing:
            self._users[path] -= 1
            server = server_manager_instance._servers.get(str(Path(path).resolve()))
            if self._users[path] or server is None:
                return
            process = server._p
            server_manager_instance.release_server(path)
            # Its manager lets go of the file, at which the process ends, and forgets it.
            if process is not None:
                process.wait(timeout=_WRITE_SECONDS)


_files = _Files()


def _tags(row: Row) -> dict[str, Any]:
    tags = {"values": list(row.values), "least": row.least, "most": row.most}
    if len(json.dumps(tags)) > _MOST_TAG_BYTES:
        return {"values": [_ANY_TAGS], "least": {}, "most": {}}
    return tags
