"""Indexing holds a few requests at a time, however large the data set is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, TOY_IMAGES, children_of, clean_environment

from crossmodal.flow.pipeline import MAX_REQUEST_BYTES, batched, batched_by_modality
from crossmodal.records import IMAGE, TEXT, Record

PADDING = 5 << 20


def large_photos(folder: Path, count: int) -> Path:
    """Real photos, each with five megabytes after its end, as some cameras leave them."""
    folder.mkdir()
    small = [path.read_bytes() for path in sorted(TOY_IMAGES.glob("*.jpg"))]
    for number in range(count):
        padding = number.to_bytes(4, "big") * (PADDING // 4)
        (folder / f"{number}.jpg").write_bytes(small[number % len(small)] + padding)
    return folder


def anonymous_bytes(pid: int) -> int:
    """The memory of a process that is not a mapped file, from /proc; 0 once it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def peak_while_indexing(photos: Path, workspace: Path) -> int:
    """The largest sum over the command's processes, sampled twenty times a second."""
    process = subprocess.Popen(
        [
            sys.executable,
            "app.py",
            "-t",
            "index",
            "-d",
            photos,
            "--workspace",
            workspace,
            "--json",
        ],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(anonymous_bytes, [process.pid, *children_of(process.pid)])))
        time.sleep(0.05)
    assert process.returncode == 0
    return peak


@pytest.mark.slow
def test_four_times_the_data_needs_no_more_memory(tmp_path: Path) -> None:
    few = peak_while_indexing(large_photos(tmp_path / "few", 20), tmp_path / "workspace of few")
    many = peak_while_indexing(large_photos(tmp_path / "many", 80), tmp_path / "workspace of many")
    # The further 60 photos are 300 MB; half of that is more than the noise of the allocator.
    assert many - few < 150 << 20


def test_a_request_is_cut_by_bytes_as_well() -> None:
    records = [Record(str(n), IMAGE, content=bytes(MAX_REQUEST_BYTES // 4)) for n in range(10)]
    assert [len(batch) for batch in batched(records, 32)] == [4, 4, 2]
    assert [len(batch) for batch in batched(records, 3)] == [3, 3, 3, 1]
    small = [Record(str(n), IMAGE, content=b"small") for n in range(70)]
    assert [len(batch) for batch in batched(small, 32)] == [32, 32, 6]


def test_photos_and_captions_go_in_requests_of_their_own() -> None:
    records = [
        Record(f"{n}-{part}", IMAGE if part == 0 else TEXT, content=b"x" if part == 0 else None)
        for n in range(10)
        for part in range(6)
    ]
    batches = list(batched_by_modality(records, 4))
    assert all(len({record.modality for record in batch}) == 1 for batch in batches)
    assert [len(batch) for batch in batches if batch[0].modality == IMAGE] == [4, 4, 2]
    assert [len(batch) for batch in batches if batch[0].modality == TEXT] == [16, 16, 16, 2]
    for modality in (IMAGE, TEXT):
        sent = [record.id for batch in batches for record in batch if record.modality == modality]
        assert sent == [record.id for record in records if record.modality == modality]
