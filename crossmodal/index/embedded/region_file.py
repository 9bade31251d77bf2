"""The derived file with what rerankers made of photos: SQLite, so that any process can add to it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import xxhash

from crossmodal.index.embedded.connections import storable
from crossmodal.private_files import make_private_folder, touch_private
from crossmodal.rerankers import Regions

__all__ = ["REGION_FILE", "RegionFile", "forget_regions"]

_logger = logging.getLogger(__name__)

# Its name in the folder of derived files.
REGION_FILE = "image.regions"

# For another process that writes.
_WAIT_SECONDS = 1.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS regions (
    photo TEXT NOT NULL,
    reranker TEXT NOT NULL,
    digest TEXT NOT NULL,
    count INTEGER NOT NULL,
    content BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (photo, reranker)
) WITHOUT ROWID
"""


class RegionFile:
    """What the reranker with this ``identity`` sees of the photos of the index in ``folder``.

    Losing it costs time only: what cannot be read isn't there, and what cannot be written is logged once.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._path = folder / "derived" / REGION_FILE
        self._identity = identity
        self._complained = False

    def get(self, id: str, digest: str) -> Regions | None:
        """The regions of the photo ``id``, if they are kept, and are of the content with this digest."""
        select = (
            "SELECT count, content, checksum FROM regions"
            " WHERE photo = CAST(? AS TEXT) AND reranker = ? AND digest = ?"
        )
        try:
            if not self._path.exists():
                return None
            with _opened(self._path) as connection:
                row = connection.execute(select, (storable(id), self._identity, digest)).fetchone()
        except (OSError, sqlite3.Error) as error:
            self._complain(error)
            return None
        if row is None or _checksum(row[0], row[1]) != row[2]:
            return None
        return _read(row[0], row[1])

    def put(self, id: str, digest: str, regions: Regions) -> None:
        """Keeps the regions of one photo."""
        content = regions.scales.tobytes() + regions.values.tobytes()
        count = len(regions.scales)
        row = storable(id), self._identity, digest, count, content, _checksum(count, content)
        try:
            make_private_folder(self._path.parent)
            touch_private(self._path)
            with _opened(self._path) as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO regions VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?)", row
                )
        except (OSError, sqlite3.Error) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            _logger.warning("The regions of photos are not kept in %s (%s).", self._path, error)
        self._complained = True
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            # It is damaged, and begun anew.
            with suppress(OSError):
                self._path.unlink()


def forget_regions(folder: Path, known_ids: Callable[[list[str]], list[str]]) -> None:
    """Deletes what is kept of photos that are not among the ``known_ids`` of the index any more."""
    path = folder / "derived" / REGION_FILE
    if not path.exists():
        return
    try:
        with _opened(path) as connection:
            connection.text_factory = partial(str, encoding="utf-8", errors="surrogatepass")
            kept = [id for (id,) in connection.execute("SELECT DISTINCT photo FROM regions")]
            gone = set(kept).difference(known_ids(kept))
            delete = "DELETE FROM regions WHERE photo = CAST(? AS TEXT)"
            connection.executemany(delete, [(storable(id),) for id in gone])
    except (OSError, sqlite3.Error) as error:
        _logger.warning("The regions of deleted photos are still in %s (%s); delete it.", path, error)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one transaction: the file may be deleted before the next one."""
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    try:
        with connection:
            connection.execute(_SCHEMA)
            yield connection
    finally:
        connection.close()


def _checksum(count: int, content: bytes) -> bytes:
    return xxhash.xxh3_64_digest(b"%d %b" % (count, content))


def _read(count: int, content: bytes) -> Regions:
    scales = np.frombuffer(content, np.float32, count)
    return Regions(np.frombuffer(content, np.int8, offset=scales.nbytes).reshape(count, -1), scales)
