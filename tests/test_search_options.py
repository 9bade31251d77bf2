"""Which tier suits a number of vectors, and what a tier can be told."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
import yaml
from conftest import REPOSITORY

from crossmodal.errors import SettingsError
from crossmodal.index.embedded.options import SearchOptions, suitable_tier
from crossmodal.settings import INDEXES


@pytest.mark.parametrize(
    ("count", "dimension", "tier"),
    [
        (15, 512, "exact"),
        (29_000, 512, "exact"),
        (30_000, 512, "coarse"),
        (115_000, 128, "exact"),
        (120_000, 128, "coarse"),
        (400_000, 512, "coarse"),
        (410_000, 512, "ivf"),
        (10_000_000, 512, "ivf"),
        (800_000, 16, "exact"),
        (1_000_000, 16, "coarse"),
    ],
)
def test_auto_follows_the_size(count: int, dimension: int, tier: str) -> None:
    assert suitable_tier(SearchOptions(), count, dimension) == tier


def test_less_time_leaves_exact_search_and_the_scan_earlier() -> None:
    hurried = SearchOptions.of("auto", {"latency_ms": 2})
    assert [suitable_tier(hurried, count, 512) for count in (5_000, 8_000, 100_000, 110_000)] == [
        "exact",
        "coarse",
        "coarse",
        "ivf",
    ]


def test_a_named_tier_is_used_from_2000_vectors_on() -> None:
    for name in INDEXES[1:]:
        assert suitable_tier(SearchOptions.of(name), 1999, 512) == "exact"
        assert suitable_tier(SearchOptions.of(name), 2000, 512) == name


@pytest.mark.parametrize(
    ("index", "given", "message"),
    [
        ("annoy", {}, "index is 'annoy'; it must be one of auto, exact, scan"),
        ("auto", {"nprobe": 3}, "has 'nprobe', but the parameters of an index are rerank, cells, probes"),
        (
            "lsh",
            {"bits": 65_537},
            "bits in index_options is 65537; it must be a whole number from 0 to 65536",
        ),
        ("auto", {"rerank": 0}, "rerank in index_options is 0; it must be a whole number from 1"),
        ("auto", {"ef": 1.5}, "ef in index_options is 1.5"),
        ("auto", {"links": True}, "links in index_options is True"),
        ("auto", {"cells": "many"}, "cells in index_options is 'many'"),
        (
            "auto",
            {"latency_ms": 0},
            "latency_ms in index_options is 0; it must be a number from 1e-09 to 1000000",
        ),
        ("auto", {"recall": 98}, "recall in index_options is 98; it must be a number from 1e-09 to 1"),
    ],
)
def test_what_cannot_be_told(index: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        SearchOptions.of(index, given)


def test_numbers_arrive_as_floats() -> None:
    assert SearchOptions.of("ivf", {"probes": 8.0}).probes == 8
    assert isinstance(SearchOptions.of("ivf", {"probes": 8.0}).probes, int)


def test_the_flow_and_the_docs_list_every_parameter_with_its_default() -> None:
    defaults = {name: value for name, value in asdict(SearchOptions()).items() if name != "index"}
    steps = yaml.safe_load((REPOSITORY / "flows/flow-query.yml").read_text(encoding="utf-8"))["executors"]
    written = [step["uses_with"]["index_options"] for step in steps if "index" in step.get("uses_with", {})]
    assert written == [defaults, defaults]
    documented = (REPOSITORY / "docs/search.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", documented, re.MULTILINE))
    assert {name: float(value) for name, value in table.items()} == defaults
    assert re.findall(r"^\| `--index (\w+)` \|", documented, re.MULTILINE) == list(INDEXES)
