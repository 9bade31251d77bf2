"""The toy photos as others store them: webdataset's tar, and Parquet and files as img2dataset writes them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import TOY_DATA, TOY_IMAGES

__all__ = ["ToySample", "toy_samples", "write_files", "write_parquet", "write_tar"]


@dataclass(frozen=True)
class ToySample:
    """A photo with its first caption, under the key that img2dataset would give it."""

    key: str
    name: str
    content: bytes
    caption: str

    @property
    def said(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "caption": self.caption,
            "url": f"https://example.org/{self.name}",
            "key": self.key,
            "status": "success",
            "error_message": None,
            "width": 1,
            "similarity": 0.3,
        }


def toy_samples() -> list[ToySample]:
    """The fifteen toy photos, by name."""
    captions: dict[str, str] = {}
    with (TOY_DATA / "captions.txt").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], row["caption"].strip())
    return [
        ToySample(f"{number:09d}", path.name, path.read_bytes(), captions[path.name])
        for number, path in enumerate(sorted(TOY_IMAGES.iterdir()))
    ]


def _members(sample: ToySample) -> Iterator[tuple[str, bytes]]:
    yield f"{sample.key}.jpg", sample.content
    yield f"{sample.key}.txt", sample.caption.encode()
    yield f"{sample.key}.json", json.dumps(sample.said).encode()


def write_tar(path: Path, samples: Sequence[ToySample]) -> None:
    """A shard of webdataset."""
    with tarfile.open(path, "w") as archive:
        for sample in samples:
            for name, content in _members(sample):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_parquet(path: Path, samples: Sequence[ToySample], **columns: Sequence[Any]) -> None:
    """A shard of Parquet, with ``columns`` in the place of its own or beside them."""
    rows = {
        "key": [sample.key for sample in samples],
        "url": [sample.said["url"] for sample in samples],
        "caption": [sample.caption for sample in samples],
        "status": ["success" for _ in samples],
        "similarity": [0.3 for _ in samples],
        "jpg": [sample.content for sample in samples],
    }
    pq.write_table(pa.table({**rows, **columns}), path)


def write_files(folder: Path, samples: Sequence[ToySample]) -> None:
    """A shard of files, with the Parquet of what is known of them beside it."""
    inside = folder / "00000"
    inside.mkdir(parents=True)
    for sample in samples:
        for name, content in _members(sample):
            (inside / name).write_bytes(content)
    said = [sample.said for sample in samples]
    pq.write_table(pa.Table.from_pylist(said), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}", encoding="utf-8")
