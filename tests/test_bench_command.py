"""``python -m bench``: its list, a benchmark from end to end, and the tables in docs/performance.md."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY, run_python

from bench.cases import CASES
from bench.harness import Result
from bench.report import PAGE, read_results, with_tables, write_results, write_tables
from crossmodal.errors import DataError

MACHINE = {
    "processor": "A processor",
    "instructions": ["avx2"],
    "cores": 2,
    "memory_gb": 8,
    "threads": 1,
    "load_average": [0.1, 0.2],
    "python": "3.11.7",
    "versions": {"numpy": "2.4.6"},
}
RESULT = Result(
    "ingest",
    5000.4,
    "documents/s",
    "LMDB | alone",
    0.8123,
    ">= 0.8",
    True,
    6156.0,
    (0.8, 0.82),
    5,
    machine=MACHINE,
)


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "bench", *arguments)


def test_without_arguments_every_name_is_listed() -> None:
    listed = bench()
    assert listed.returncode == 0
    names = re.findall(r"^  ([\w-]+)  ", listed.stdout, re.MULTILINE)
    assert names == [*CASES, "all", "table"]


def test_every_name_has_a_module_that_runs() -> None:
    for case in CASES.values():
        source = (REPOSITORY / "bench" / "cases" / f"{case.module}.py").read_text(encoding="utf-8")
        assert f"\ndef {case.run}(options: Options) -> list[Result]:\n" in source


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["ingest", "results.json"], "ingest takes no files: results.json"),
        (["ingest", "--vectors", "10000"], "--vectors goes with scaling, not with ingest"),
        (["scaling", "--vectors", "10000", "999"], "--vectors is 999, at least 1,000"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], reason: str) -> None:
    refused = bench(*arguments)
    assert refused.returncode == 2
    assert reason in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--json", "README.md/results.json"], "README.md"),
        (["--json", "docs"], "Is a directory: 'docs'"),
    ],
)
def test_what_cannot_be_read_or_written_is_told_before_anything_is_measured(
    arguments: list[str], reason: str
) -> None:
    refused = bench("ingest", "--quick", *arguments)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert reason in refused.stderr


def test_tables_need_results(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"name": 1}')
    assert "No results are named" in bench("table").stderr
    refused = bench("table", tmp_path / "other.json")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "other.json holds no results of a benchmark" in refused.stderr


def test_a_quick_benchmark_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "results" / "ingest.json"
    done = bench("ingest", "--quick", "--json", file, "--workspace", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SQLite alone, same batches" in done.stdout
    result, against = json.loads(file.read_text())
    assert (against["name"], against["goal"], against["ok"]) == (
        "ingest, against LMDB",
        None,
        None,
    )
    assert {"name", "value", "unit", "reference", "ratio", "goal", "ok"} <= set(result)
    assert (result["name"], result["unit"], result["goal"]) == ("ingest", "documents/s", ">= 0.8")
    assert result["ok"] in (True, False, None)
    assert result["value"] > 0
    low, high = result["spread"]
    assert 0 < low <= result["ratio"] <= high
    assert 1 <= result["rounds"] <= 5
    machine = result["machine"]
    assert {"lmdb", "numpy", "torch"} <= set(machine["versions"])
    assert machine["threads"] == 1
    assert len(machine["load_average"]) == 2
    # Nothing of what was written for the measurement is left.
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    bare = Result("open, a", 1.5, "s")
    write_results(tmp_path / "r.json", [RESULT, bare])
    assert read_results(tmp_path / "r.json") == [RESULT, bare]


def test_a_table_replaces_its_section_and_nothing_else(tmp_path: Path) -> None:
    tail = "\nText.\n<!-- open -->\nkept\n<!-- end of open -->\n"
    text = f"# Page\n<!-- ingest -->\nold\n<!-- end of ingest -->{tail}"
    written = with_tables(text, [[RESULT]])
    row = r"| ingest | 5,000 documents/s | LMDB \| alone (6,156) | 0.812 (0.8-0.82) | >= 0.8 | yes |"
    assert row in written.splitlines()
    assert "old" not in written
    assert "A processor, 2 cores (avx2), 8 GB; 1 thread; load average 0.1 before, 0.2 after." in written
    assert written.endswith(tail)
    # Once more gives the same; of two runs the later one counts.
    assert with_tables(written, [[RESULT]]) == written
    assert with_tables(text, [[Result("ingest", 1.0, "documents/s")], [RESULT]]) == written


def test_results_without_a_section_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    write_results(tmp_path / "r.json", [RESULT])
    with pytest.raises(DataError, match="no section <!-- ingest -->"):
        write_tables([tmp_path / "r.json"], page)
    with pytest.raises(DataError, match="'nonsense' is no benchmark"):
        with_tables("", [[Result("nonsense, x", 1.0, "s")]])


def test_the_page_describes_every_benchmark_and_has_room_for_its_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^### `([\w-]+)`$", page, re.MULTILINE) == list(CASES)
    for name in CASES:
        assert re.search(rf"<!-- {name} -->\n.*<!-- end of {name} -->", page, re.DOTALL), name
