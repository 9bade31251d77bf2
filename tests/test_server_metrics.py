"""What /metrics has of a real server with several workers, and that the dashboard asks for nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import REPOSITORY, Server, children_of, copy_index, decoders_of, start_server
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD = REPOSITORY / "docs" / "grafana.json"

# What PromQL has beside names of metrics and labels.
PROMQL = {"sum", "by", "rate", "max", "min", "histogram_quantile", "le", "increase", "avg", "on", "ignoring"}


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    copy = copy_index(toy_workspace, tmp_path_factory.mktemp("metrics") / "workspace")
    server = start_server("query_restful", "--workspace", copy, "--workers", "2")
    yield server
    server.stop()


def scraped(server: Server) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus reads it."""
    text = httpx2.get(f"{server.url}/metrics").text
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def search(server: Server, number: int) -> None:
    for sentence in range(number):
        # A connection each, so that both workers get some.
        answer = httpx2.post(f"{server.url}/v1/search", json={"text": f"sentence {sentence}"})
        assert answer.status_code == 200


def test_workers_add_up_and_a_lost_one_loses_no_counts(server: Server) -> None:
    queries = "crossmodal_queries_total{}"
    before = scraped(server).get(queries, 0.0)
    search(server, 12)
    # Whichever worker answers.
    assert [scraped(server)[queries] - before for _ in range(6)] == [12.0] * 6
    workers = children_of(server.process.pid)
    os.kill(workers[1], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(set(children_of(server.process.pid)) - {workers[1]}) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    search(server, 3)
    after = scraped(server)
    assert after[queries] - before == 15.0
    assert after['crossmodal_documents{"modality": "image"}'] == 15.0


def test_openmetrics_comes_to_those_who_ask_for_it(server: Server, toy_server: Server) -> None:
    # What Prometheus 3 sends.
    accept = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=0.0.4;q=0.4,*/*;q=0.2"
    )
    for each in (server, toy_server):
        search(each, 1)
        plain = httpx2.get(f"{each.url}/metrics")
        opened = httpx2.get(f"{each.url}/metrics", headers={"Accept": accept})
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1")
        families = {family.name: family for family in openmetrics.text_string_to_metric_families(opened.text)}
        assert families["crossmodal_queries"].type == "counter"
        assert families["crossmodal_queries"].samples[0].value >= 1
        assert opened.text.endswith("# EOF\n")
        assert "_created" not in plain.text + opened.text
        for unit in ("bytes", "seconds", "ratio"):
            assert re.search(rf"^crossmodal_\w+_{unit}", plain.text, re.MULTILINE), unit


def test_stages_refusals_and_processes(server: Server) -> None:
    search(server, 2)
    assert httpx2.delete(f"{server.url}/v1/documents/x", headers={"Origin": "http://a.b"}).status_code == 403
    samples = scraped(server)
    for stage in ("wait", "encode", "search", "fetch"):
        assert samples[f'crossmodal_stage_seconds_count{{"stage": "{stage}"}}'] >= 2
    assert samples['crossmodal_admission{"of": "queues.sentences.held"}'] == 0
    # That of this scrape, at least.
    assert samples['crossmodal_connections{"of": "open"}'] >= 1
    assert samples['crossmodal_decode_memory_bytes{"of": "limit"}'] >= 128 << 20
    assert samples['crossmodal_refused_requests_total{"reason": "forbidden"}'] == 1
    assert samples['crossmodal_searches{"of": "waiting"}'] == 0
    assert samples['crossmodal_index_recall_ratio{"modality": "image"}'] == 1.0
    pids = {server.process.pid, *children_of(server.process.pid), *decoders_of(server.process.pid)}
    memory = {key: value for key, value in samples.items() if key.startswith("crossmodal_process_resident")}
    assert {int(json.loads(key[key.index("{") :])["pid"]) for key in memory} == pids
    assert all(2e6 < value < 2e9 for value in memory.values())
    opened = [value for key, value in samples.items() if key.startswith("crossmodal_process_open_files")]
    assert len(opened) == len(pids)
    assert min(opened) > 3


def queries_of(panel: dict[str, Any]) -> list[str]:
    inner = [query for part in panel.get("panels", ()) for query in queries_of(part)]
    return [target["expr"] for target in panel.get("targets", ())] + inner


def test_the_dashboard_asks_for_metrics_that_a_server_has(server: Server) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [query for panel in dashboard["panels"] for query in queries_of(panel)]
    search(server, 1)
    httpx2.post(
        f"{server.url}/v1/documents",
        content=b'{"text": "x"}',
        headers={"Content-Type": "application/x-ndjson"},
    )
    httpx2.delete(f"{server.url}/v1/documents/x", headers={"Origin": "http://a.b"})
    names = {key.partition("{")[0] for key in scraped(server)}
    asked = set()
    for query in queries:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring) *\([^)]*\)", "", query)
        asked |= {word for word in re.findall(r"[A-Za-z_]\w*", bare) if word not in PROMQL}
    assert len(asked) > 12
    assert asked - names == set()


def test_every_panel_has_a_title_a_unit_and_its_own_place() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["uid"] == "crossmodal"
    places = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not places & cells, f"{panel['title']} covers another"
        places |= cells
