"""What a server counts: for Prometheus at /metrics, and for the status view."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    multiprocess,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from crossmodal.server.observation import STAGES
from crossmodal.server.process_metrics import ProcessTree

__all__ = ["LATENCY_BOUNDS_MS", "Metrics", "Source"]

# Upper bounds in milliseconds; a search with a warm model takes about ten.
LATENCY_BOUNDS_MS = (2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500)

# Queries a second are those of the last minute.
_WINDOW_SECONDS = 60.0

# Percentiles are those of so many latest searches.
_LATEST = 2048

# In seconds; waiting may take long where a search takes a millisecond.
_STAGE_BOUNDS = (0.0005, 0.001, *(bound / 1000 for bound in LATENCY_BOUNDS_MS), 5.0, 10.0, 30.0)

# What a part of the server says of itself: numbers by name, or by a name and another one below it.
Source = Callable[[], Mapping[str, Any]]


class Metrics:
    """The counters of one serving process. Not safe across threads: the event loop alone counts.

    Where several serve, ``shared`` is the folder in which they add up, and each answers with the sums; the
    environment's PROMETHEUS_MULTIPROC_DIR has to name it since before prometheus_client was imported.
    ``root_process`` is the process whose memory and files, with all below it, are shown; None for this one.
    """

    def __init__(self, root_process: int | None = None, shared: Path | None = None) -> None:
        # A gauge a series that nobody asks for, and that workers who add up don't have.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        # What answers a scrape: this process's counters, or the sums of all.
        self._shown = self._registry
        if shared is not None:
            _forget_ended(shared)
            self._shown = CollectorRegistry()
            self._shown.register(_Sums(shared))
        self._shown.register(ProcessTree(root_process or os.getpid()))
        self._sources: list[tuple[Gauge, Source]] = []
        self._requests = Counter(
            "crossmodal_requests",
            "HTTP requests by route and status",
            ["route", "status"],
            registry=self._registry,
        )
        self._queries = Counter("crossmodal_queries", "Queries searched for", registry=self._registry)
        self._latency = Histogram(
            "crossmodal_search_seconds",
            "Time from a search request's arrival to its answer",
            buckets=[bound / 1000 for bound in LATENCY_BOUNDS_MS],
            registry=self._registry,
        )
        self._stages = Histogram(
            "crossmodal_stage_seconds",
            "Time that a stage of a search took",
            ["stage"],
            buckets=_STAGE_BOUNDS,
            registry=self._registry,
        )
        for stage in STAGES:
            self._stages.labels(stage)
        self._refused = Counter(
            "crossmodal_refused_requests",
            "Requests refused, by reason: no right to ask, too many at once, too many from one",
            ["reason"],
            registry=self._registry,
        )
        self._documents = Gauge(
            "crossmodal_documents",
            "Documents in the index",
            ["modality"],
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._recall = Gauge(
            "crossmodal_index_recall_ratio",
            "Share of the ten best that a search finds, by the last self-check",
            ["modality"],
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._building = Gauge(
            "crossmodal_index_building_ratio",
            "Share that is done of what is being built for searching, 1 where nothing is",
            ["modality"],
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._backend = Gauge(
            "crossmodal_backend_up",
            "1 where the vector database answers and has all vectors, 0 where it is away or being filled",
            ["modality"],
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self._behind = Gauge(
            "crossmodal_backend_behind",
            "Vectors that the vector database doesn't have yet, NaN where it doesn't say",
            ["modality"],
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._objects = Gauge(
            "crossmodal_objects_up",
            "0 where the object store of originals and thumbnails is away, else 1",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self._written = Counter(
            "crossmodal_written_documents",
            "Documents written over HTTP by outcome",
            ["outcome"],
            registry=self._registry,
        )
        self._cache = Counter(
            "crossmodal_text_cache",
            "Sentences whose vector was remembered, or had to be made",
            ["result"],
            registry=self._registry,
        )
        self._total = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._latest: deque[float] = deque(maxlen=_LATEST)
        self._counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request; ``route`` is the route's pattern, never a path with an id."""
        self._requests.labels(route, str(status)).inc()

    def count_stages(self, stages_ms: Mapping[str, float]) -> None:
        """Count the milliseconds that each stage of one request took."""
        for stage, milliseconds in stages_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        if self._shown is not self._registry:
            # Another process may answer the next scrape.
            self._read_sources()

    def count_refused(self, reason: str) -> None:
        """Count one request that was refused; ``reason`` is one of a few words."""
        self._refused.labels(reason).inc()

    def add_source(self, name: str, read: Source, *, common: bool = False) -> None:
        """Show what ``read`` gives as ``crossmodal_NAME`` with the label ``of``.

        Of several workers it is the sum, or with ``common`` the latest, where all of them see the same. A
        number below a name is ``name.number``. ``read`` is called at each scrape, and with several workers
        after each request, so it only looks at what is known.
        """
        gauge = Gauge(
            f"crossmodal_{name}",
            f"The state of {name.replace('_', ' ')} now",
            ["of"],
            registry=self._registry,
            multiprocess_mode="livemostrecent" if common else "livesum",
        )
        self._sources.append((gauge, read))
        self._read_sources()

    def count_search(self, queries: int, seconds: float) -> None:
        """Count one search request of ``queries`` queries; each of them took as long as the request."""
        self._queries.inc(queries)
        self._latency.observe(seconds)
        self._total += queries
        self._recent.append((time.monotonic(), queries))
        self._forget()
        self._latest.extend([seconds * 1000] * queries)
        place = next((i for i, bound in enumerate(LATENCY_BOUNDS_MS) if seconds * 1000 <= bound), -1)
        self._counts[place] += queries

    def count_cached_texts(self, hits: int, misses: int) -> None:
        """Count sentences by whether their vectors were remembered."""
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)

    def count_written(self, outcome: str, number: int = 1) -> None:
        """Count documents that were added, replaced, unchanged, deleted or failed."""
        self._written.labels(outcome).inc(number)

    def traffic(self) -> dict[str, Any]:
        """How many queries, how many a second in the last minute, and how long they took, as JSON values."""
        self._forget()
        ordered = sorted(self._latest)
        bounds: list[int | None] = [*LATENCY_BOUNDS_MS, None]
        return {
            "queries": self._total,
            "queries_per_second": round(sum(n for _, n in self._recent) / _WINDOW_SECONDS, 3),
            "p50_ms": _percentile(ordered, 0.50),
            "p99_ms": _percentile(ordered, 0.99),
            "latency": [
                {"le_ms": bound, "count": count} for bound, count in zip(bounds, self._counts, strict=True)
            ],
        }

    def exposition(
        self,
        documents: Mapping[str, int],
        states: Mapping[str, Mapping[str, Any]],
        accept: str = "",
        *,
        objects: Mapping[str, Any] | None = None,
    ) -> tuple[bytes, str]:
        """The text that Prometheus scrapes, and its content type.

        It is OpenMetrics where the header ``accept`` has that, else Prometheus' own text format. By
        modality: ``documents`` is how many the index holds now, and ``states`` how it is searched
        (``index_state``); an unknown recall is NaN. ``objects`` is how the object store is, None without one.
        """
        for modality, count in documents.items():
            self._documents.labels(modality).set(count)
        self._objects.set(float(objects is None or objects["state"] == "ready"))
        for modality, state in states.items():
            recall, building = state["recall"], state["building"]
            self._recall.labels(modality).set(math.nan if recall is None else recall)
            self._building.labels(modality).set(1.0 if building is None else building["done"])
            if (backend := state.get("backend")) is not None:
                behind = backend["behind"]
                self._backend.labels(modality).set(float(backend["state"] == "ready"))
                self._behind.labels(modality).set(math.nan if behind is None else behind)
        self._read_sources()
        encode, content_type = choose_encoder(accept)
        return encode(self._shown), content_type

    def _read_sources(self) -> None:
        for gauge, read in self._sources:
            for name, value in _numbers(read()):
                gauge.labels(name).set(value)

    def _forget(self) -> None:
        oldest = time.monotonic() - _WINDOW_SECONDS
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()


class _Sums(Collector):
    """What all processes have counted in the folder ``shared``, together."""

    def __init__(self, shared: Path) -> None:
        self._added = multiprocess.MultiProcessCollector(None, str(shared))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Each family with its samples of equal labels side by side, as OpenMetrics has them."""
        for metric in self._added.collect():  # type: ignore[no-untyped-call]
            metric.samples.sort(key=_labels_of)
            yield metric


def _labels_of(sample: Sample) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in sample.labels.items() if name != "le")


def _numbers(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{name}.")
        else:
            yield above + name, float(value)


def _forget_ended(folder: Path) -> None:
    """Removes the gauges of processes that have ended unasked; what they counted stays."""
    pids = {name[1] for path in folder.iterdir() if (name := re.search(r"_([0-9]+)\.db$", path.name))}
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _percentile(ordered: list[float], fraction: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(int(fraction * len(ordered)), len(ordered) - 1)], 3)
