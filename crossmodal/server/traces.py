"""Traces of requests for OpenTelemetry: a span a request, and one below it for each stage of a search."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from crossmodal import __version__
from crossmodal.errors import SettingsError
from crossmodal.extras import extra_for
from crossmodal.server.observation import Observation

__all__ = ["Traces"]

# Where a collector takes traces over HTTP (OTLP 1.0), below its address.
_PATH = "/v1/traces"


class Traces:
    """Sends spans to the collector at ``url``, in a thread of its own and some at a time.

    A request's span continues the trace of its ``traceparent`` (W3C Trace Context), and is left out where
    that says that it isn't sampled. Raises SettingsError for what is no address, MissingExtra without the
    extra otel.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise SettingsError(f"--otlp is {url!r}; it has to be an address such as http://localhost:4318.")
        with extra_for("--otlp"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        endpoint = url if urlsplit(url).path.endswith(_PATH) else url.rstrip("/") + _PATH
        named = {"service.name": "crossmodal", "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("crossmodal")
        self._propagator = TraceContextTextMapPropagator()

    def add(
        self,
        scope: Scope,
        seen: Observation,
        started_ns: int,
        ended_ns: int,
        attributes: Mapping[str, str | int],
    ) -> str:
        """Notes a request that has ended; returns the id of its trace, 32 hexadecimal digits.

        Times are nanoseconds since 1970. The span has the names and values of ``attributes``.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context

        headers = Headers(scope=scope)
        carried = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        span = self._tracer.start_span(
            f"{attributes['http.request.method']} {attributes['http.route']}",
            context=self._propagator.extract(carried),
            kind=SpanKind.SERVER,
            attributes={**attributes, "crossmodal.request_id": seen.id},
            start_time=started_ns,
        )
        inside = set_span_in_context(span)
        for stage, began, ended in seen.spans:
            part = self._tracer.start_span(stage, context=inside, start_time=max(began, started_ns))
            part.end(ended)
        if int(attributes["http.response.status_code"]) >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()
