"""kill -9 at random moments loses nothing that was acknowledged and tears nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from store_samples import REPOSITORY, photo, vector_of

from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.store import EmbeddedStore

KILLS = 24
# So many batches are written before a kill, which then comes within the time that the next two or so take.
MOST_BATCHES = 24
LONGEST_PAUSE_SECONDS = 0.02
PHOTOS = 150

# Puts endless random batches, new and changed photos mixed with deletions, and prints each after its commit.
WRITER = """
import random, sys
from pathlib import Path
from store_samples import photo, vectors_of
from crossmodal.index.embedded.store import EmbeddedStore

path, seed, photos = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
version = seed * 1_000_000
store = EmbeddedStore.open_writer(path)
print("ready", flush=True)
while True:
    version += 1
    names = [f"photo{chance.randrange(photos)}" for _ in range(chance.choice([1, 2, 16, 64]))]
    if chance.random() < 0.15:
        print("try delete", *names, flush=True)
        store.delete(names)
        print("done", flush=True)
    else:
        print("try put", version, *names, flush=True)
        records = [photo(name, version=version, size=chance.choice([100, 5_000, 60_000])) for name in names]
        store.put(records, vectors_of(records))
        print("done", flush=True)
"""

Expected = dict[str, int | None]


def start(path: Path, seed: int) -> subprocess.Popen[bytes]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(seed), str(PHOTOS)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def run_and_kill(path: Path, seed: int, batches: int, pause: float) -> list[str]:
    """All complete lines that the writer printed until it was killed, ``pause`` seconds after ``batches``."""
    writer = start(path, seed)
    assert writer.stdout is not None
    output = b""
    while output.count(b"done\n") < batches:
        line = writer.stdout.readline()
        assert line, "the writer ended by itself"
        output += line
    time.sleep(pause)
    writer.send_signal(signal.SIGKILL)
    output += writer.stdout.read()
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    return output.decode().splitlines()[: output.count(b"\n")]


def apply(expected: Expected, line: str) -> Expected:
    words = line.split()
    if words[1] == "delete":
        return {**expected, **dict.fromkeys(words[2:])}
    return {**expected, **dict.fromkeys(words[3:], int(words[2]))}


def stored(store: EmbeddedStore) -> Expected:
    ids = list(store.ids("image"))
    return {
        id: record.tags["version"] for id, record in zip(ids, store.get(ids, "image"), strict=True) if record
    }


def living(expected: Expected) -> Expected:
    return {id: version for id, version in expected.items() if version is not None}


def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store"
    chance = random.Random(20261121)
    expected: Expected = {}
    for kill in range(KILLS):
        batches, pause = chance.randrange(MOST_BATCHES), chance.uniform(0.0, LONGEST_PAUSE_SECONDS)
        lines = run_and_kill(path, kill + 1, batches, pause)
        pending = None
        for line in lines:
            if line == "done":
                assert pending is not None
                expected, pending = apply(expected, pending), None
            else:
                pending = line
        # A free lock: the kernel released it with the process.
        with EmbeddedStore.open_writer(path) as store:
            assert store.verify() == []
            found = stored(store)
            # The batch that was on its way may be there, as a whole, or not at all.
            if pending is not None and found != living(expected):
                expected = apply(expected, pending)
            assert found == living(expected)
            counts = store.counts("image")
            assert counts.documents == counts.vectors == len(found)
            assert_contents_and_vectors(store, found)


def assert_contents_and_vectors(store: EmbeddedStore, found: Expected) -> None:
    index = ExactIndex(store.vector_source("image"))
    assert len(index) == len(found)
    for id, version in found.items():
        content = store.content(id)
        assert version is not None
        assert content is not None
        assert content == photo(id, version=version, size=len(content)).content
    if found:
        queries = np.stack([vector_of(id, int(version or 0)) for id, version in found.items()])
        best = index.search(queries, 1)
        assert [matches[0][0] for matches in best] == list(found)
        assert all(abs(matches[0][1] - 1) < 1e-6 for matches in best)
