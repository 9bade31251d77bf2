"""``unchanged``: a folder of photos that is indexed again although nothing in it has changed."""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from bench import processes
from bench.harness import Options, Result, at_most, compared, in_turns, timed
from crossmodal.data_sets.beside import signature_of
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import DEFAULT_MODEL, identify_model
from crossmodal.records import IMAGE, LocalFile, Record, digest_of, photo_id

__all__ = ["run"]

_PHOTOS = 100_000
_IN_A_FOLDER = 200
_COMMITTED = 2_048


def run(options: Options) -> list[Result]:
    """Seconds of a whole run of ``index``, against looking at each file once."""
    count = 10_000 if options.quick else _PHOTOS
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        photos, workspace = Path(name) / "photos", Path(name) / "index"
        _make(photos, workspace, count)
        contenders = {
            "index": lambda: float(processes.index(photos, workspace)["seconds"]),
            "walk": lambda: float(processes.python(__name__, photos)),
        }
        rounds = in_turns(contenders, warm_up=1, until=options.until())
    return [
        compared(
            f"unchanged, {count:,} photos",
            "s",
            rounds["index"],
            "os.walk and stat",
            rounds["walk"],
            note=f"{count / rounds['index'].median:,.0f} photos/s",
        ),
        compared(
            f"unchanged, {count:,} photos, in a minute",
            "s",
            rounds["index"],
            "a minute",
            60.0,
            goal=at_most(1, judged=count == _PHOTOS),
        ),
    ]


def _make(photos: Path, workspace: Path, count: int) -> None:
    """Photos of a pixel, and an index that has them; encoding them would take half an hour."""
    random = np.random.default_rng(0)
    identity = identify_model(DEFAULT_MODEL)
    records: list[Record] = []
    with EmbeddedStore.open_writer(workspace, identity=identity) as store:
        for number in range(count):
            path = f"{number // _IN_A_FOLDER:04}/{number:06}.png"
            file = photos / path
            if number % _IN_A_FOLDER == 0:
                file.parent.mkdir(parents=True)
            content = _png(number)
            file.write_bytes(content)
            digest = digest_of(content)
            local = LocalFile(str(photos), path, signature_of(str(file)))
            records.append(
                Record(photo_id(digest), IMAGE, digest=digest, local=local, uri=str(file)).hashed()
            )
            if len(records) == _COMMITTED or number == count - 1:
                store.put(records, random.standard_normal((len(records), identity.dimension), np.float32))
                records = []


def _png(number: int) -> bytes:
    """A PNG of one pixel with a text that makes it another one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"tEXt", b"Comment\0%d" % number)
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


def _walk(folder: str) -> None:
    for here, _, names in os.walk(folder):
        for name in names:
            os.stat(f"{here}/{name}")  # noqa: PTH116  (what is measured)


if __name__ == "__main__":
    print(timed(lambda: _walk(sys.argv[1])))
