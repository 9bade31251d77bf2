"""Records and vectors for the tests of stores and search."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmodal.models.hubness import Banks
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, TEXT, Record

REPOSITORY = Path(__file__).resolve().parents[1]

VSE = ModelIdentity("vse", "1111222233334444", "squash 224", 8)
CLIP = ModelIdentity("clip", "aaaabbbbccccdddd", "crop 224", 8)


def photo(name: str, *, version: int = 0, size: int = 1000) -> Record:
    """A photo whose bytes follow from its name and version."""
    content = np.random.default_rng(abs(hash_of(name)) + version).bytes(size)
    return Record(
        id=name,
        modality=IMAGE,
        uri=f"/photos/{name}.jpg",
        mime_type="image/jpeg",
        tags={"version": version, "place": "Zürich"},
        content=content,
        thumbnail=content[:50],
    ).hashed()


def caption(name: str, text: str) -> Record:
    """A caption with a text."""
    return Record(id=name, modality=TEXT, text=text, photo_id=name.split("-")[0]).hashed()


def hash_of(name: str) -> int:
    """A number from a name that is the same in every process."""
    return int.from_bytes(name.encode()[-7:], "big")


def vector_of(name: str, version: int = 0, dimension: int = 8) -> NDArray[np.float32]:
    """The unit vector that belongs to a name and version."""
    vector = np.random.default_rng([hash_of(name), version]).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def vectors_of(records: Sequence[Record], dimension: int = 8) -> NDArray[np.float32]:
    """The vectors of ``photo`` records by name and version."""
    return np.stack([vector_of(r.id, int(r.tags.get("version", 0)), dimension) for r in records])


def some_banks(dimension: int = 8) -> Banks:
    """Banks of a few vectors that make the hubness of documents differ."""
    vectors = np.stack([vector_of(f"bank {number}", 0, dimension) for number in range(12)])
    return Banks.of(vectors[:6], vectors[6:], weights=VSE.weights)


def run_python(code: str, *arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in another process that can import the package and this module."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
