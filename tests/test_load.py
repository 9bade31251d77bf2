"""Three times what a server can answer: it answers as much as it can, refuses the rest, and recovers."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import children_of, start_server
from load import Report, Seen, measure


def test_what_is_reported_follows_from_what_was_seen() -> None:
    seen = Seen(2.0)
    for latency in (0.1, 0.2, 0.3):
        seen.note(200, latency)
    seen.note(429, 0.01)
    seen.cpu = 0.75
    # One answer a second and four for a CPU second, then three and six: five.
    sustained = Seen(2.0, 0.5, {200: [0.1] * 2}), Seen(2.0, 1.0, {200: [0.1] * 6})
    report = Report(sustained, seen, 100, 104, 0.5)
    assert (report.goodput, round(report.growth, 3)) == (0.75, 0.04)
    # Three answers in .75 CPU seconds, which take .6 without the refusal.
    assert report.goodput_by_cpu == pytest.approx(0.8)
    assert report.refusal_cpu == pytest.approx(0.15)
    assert (seen.percentile(0.5), seen.percentile(0.99, 429)) == (0.2, 0.01)
    assert "goodput: 0.75" in "\n".join(report.lines())


@pytest.mark.slow
def test_three_times_the_sustainable_rate(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace)
    try:
        port = int(server.url.rpartition(":")[2])
        report = measure(port, children_of(server.process.pid), 15.0)
        assert set(report.overload.counts()) <= {200, 429}, report
        assert report.overload.counts()[429] > 0
        # By CPU second, as the client and whatever else runs take their share of the same cores.
        assert report.goodput_by_cpu > 0.8
        assert report.growth < 0.1
        assert report.normal_after < 5
        assert server.request("/readyz")[0] == 200
    finally:
        server.stop()
