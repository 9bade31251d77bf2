"""The model of docs/scaling.md: its tables are those that it prints, and its bytes are those of an index."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, run_python

from bench.scaling import Machine, Shard, Size, disk
from bench.vectors import documents, synthetic
from crossmodal.index.embedded.derived_file import CODES, VECTORS, derived_path
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.records import IMAGE

VECTORS_STORED, FIRST = 10_000, 1_000


def filled(folder: Path, count: int) -> int:
    """The bytes of an index of so many small photos."""
    with EmbeddedStore.open_writer(folder) as store:
        rows = synthetic(count, 1).all()
        for start in range(0, count, 2_000):
            stop = min(start + 2_000, count)
            store.put(documents(start, stop - start), rows[start:stop])
    return (folder / INDEX_FILE).stat().st_size


def test_the_tables_of_the_page_are_what_the_model_prints() -> None:
    page = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    printed = run_python("-m", "bench.scaling")
    assert printed.returncode == 0, printed.stderr
    tables = printed.stdout.strip().split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert table in page


def test_prices_and_sizes_can_be_changed() -> None:
    arguments = ["-m", "bench.scaling", "--photos", "2e6", "--captions", "0", "--shards", "2"]
    costs = []
    for core_hour in ("0", "1"):
        printed = run_python(*arguments, "--core-hour", core_hour, "--replicas", "3", "--queries", "1")
        (row,) = [line for line in printed.stdout.splitlines() if line.startswith("| 2,000,000 | 1 x 2 |")]
        costs.append(int(re.sub(r"\D", "", row.split("|")[-2])))
    # Two shards three times, a core each, for 730 hours.
    assert costs[1] - costs[0] == pytest.approx(6 * 730, abs=1)


def test_the_bytes_are_those_of_an_index(tmp_path: Path) -> None:
    """What a record takes is the mean of a first thousand; all else follows from the formats."""
    few = filled(tmp_path / "few", FIRST)
    bare = disk(Size(FIRST, 0, photo_record=0, thumbnail=0))
    record = round((few - bare["vectors"]) / FIRST)
    predicted = disk(Size(VECTORS_STORED, 0, tier="coarse", photo_record=record, thumbnail=0))
    whole = filled(tmp_path / "whole", VECTORS_STORED)
    assert whole == pytest.approx(predicted["records"] + predicted["vectors"], rel=0.2)
    with EmbeddedStore.open_reader(tmp_path / "whole") as store:
        source = store.vector_source(IMAGE)
        for tier in ("coarse", "ivf"):
            index = VectorIndex(source, options=SearchOptions.of(tier))
            index.build()
            index.close()
            vectors, codes = (derived_path(source, kind).stat().st_size for kind in (VECTORS, CODES))
            shard = Shard(VECTORS_STORED, options=SearchOptions.of(tier))
            assert vectors == pytest.approx(shard.vectors_disk, rel=0.01)
            assert codes == pytest.approx(shard.codes_disk, rel=0.05), tier


def test_more_vectors_take_longer_and_more_shards_less_each() -> None:
    machine = Machine()
    times = [Shard(10**power).query_ms(machine) for power in range(6, 10)]
    assert times == sorted(times)
    assert Shard(10**8).query_ms(machine, 0.0) - Shard(10**8).query_ms(machine) == pytest.approx(
        Shard(10**8).candidates * machine.read_ms
    )
    halves = disk(Size(10**8, shards=2))
    assert halves["derived vectors"] == disk(Size(10**8))["derived vectors"]
    assert np.isclose(halves["codes"], disk(Size(10**8))["codes"], rtol=0.02)


def test_a_tier_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="'hnsw' isn't modelled; the model knows exact, scan, coarse, ivf"):
        _ = Shard(10**6, options=SearchOptions.of("hnsw")).tier
