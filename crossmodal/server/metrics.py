"""What a server counts: for Prometheus at /metrics, and for the status view."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["LATENCY_BOUNDS_MS", "Metrics"]

# Upper bounds in milliseconds; a search with a warm model takes about ten.
LATENCY_BOUNDS_MS = (2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500)

# Queries a second are those of the last minute.
_WINDOW_SECONDS = 60.0

# Percentiles are those of so many latest searches.
_LATEST = 2048


class Metrics:
    """The counters of one serving process. Not safe across threads: the event loop alone counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        self._parts = Histogram(
            "crossmodal_search_part_seconds",
            "Time that a part of a search took",
            ["part"],
            buckets=[bound / 1000 for bound in LATENCY_BOUNDS_MS],
            registry=self._registry,
        )
        self._documents = Gauge(
            "crossmodal_documents", "Documents in the index", ["modality"], registry=self._registry
        )
        self._recall = Gauge(
            "crossmodal_index_recall",
            "Share of the ten best that a search finds, by the last self-check",
            ["modality"],
            registry=self._registry,
        )
        self._building = Gauge(
            "crossmodal_index_building",
            "Share that is done of what is being built for searching, 1 where nothing is",
            ["modality"],
            registry=self._registry,
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

    def count_search(self, queries: int, seconds: float, parts_ms: dict[str, float] | None = None) -> None:
        """Count one search request of ``queries`` queries; each of them took as long as the request."""
        self._queries.inc(queries)
        self._latency.observe(seconds)
        for name, milliseconds in (parts_ms or {}).items():
            self._parts.labels(name).observe(milliseconds / 1000)
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

    def exposition(self, documents: Mapping[str, int], states: Mapping[str, Mapping[str, Any]]) -> bytes:
        """The text that Prometheus scrapes.

        By modality: ``documents`` is how many the index holds now, and ``states`` how it is searched
        (``index_state``); an unknown recall is NaN.
        """
        for modality, count in documents.items():
            self._documents.labels(modality).set(count)
        for modality, state in states.items():
            recall, building = state["recall"], state["building"]
            self._recall.labels(modality).set(math.nan if recall is None else recall)
            self._building.labels(modality).set(1.0 if building is None else building["done"])
        return generate_latest(self._registry)

    def _forget(self) -> None:
        oldest = time.monotonic() - _WINDOW_SECONDS
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()


def _percentile(ordered: list[float], fraction: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(int(fraction * len(ordered)), len(ordered) - 1)], 3)
