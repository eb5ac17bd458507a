"""Hands spans to a collector (OpenTelemetry, OTLP over HTTP), in the background, or not at all.

Needs the extra `otel`, and imports it only where `trace_endpoint` is set. A thread of the SDK's
sends what is queued; what does not fit in its queue, and what a collector that is away does not
take, is dropped: nothing waits for a span but a stop, and that for a second.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

from bakehouse_schemas.errors import MissingDependency
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.tracing import Span, is_traced, trace_id

log = logging.getLogger(__name__)

PATH = "/v1/traces"
QUEUED = 2_048  # spans
EVERY_MS = 1_000
SENDING_S = 5.0  # what a collector may take to answer
STOP_S = 1.0


class Tracer:
    """Spans of one part; any thread may call. `open_tracer` makes one.

    Args:
        part: serving, stream or learner.
        process: tells the processes of a part apart.
        exporter: an OpenTelemetry `SpanExporter`; None: to the settings' collector.
    """

    def __init__(
        self, settings: Settings, part: str, *, process: str, exporter: Any = None
    ) -> None:
        try:
            trace = importlib.import_module("opentelemetry.trace")
            sdk = importlib.import_module("opentelemetry.sdk.trace")
            export = importlib.import_module("opentelemetry.sdk.trace.export")
            resources = importlib.import_module("opentelemetry.sdk.resources")
            otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ImportError as error:
            raise MissingDependency(
                f"trace_endpoint is set, and {error.name} is not installed: expected the extra "
                "`otel` (pip install 'bakehouse[otel]'); or unset BAKEHOUSE_TRACE_ENDPOINT, and "
                "nothing is traced"
            ) from None
        self.share = settings.trace_share
        self._sdk, self._trace = sdk, trace
        self._flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._resource = resources.Resource(
            {"service.name": f"bakehouse-{part}", "service.instance.id": process}
        )
        self._scope = importlib.import_module(
            "opentelemetry.sdk.util.instrumentation"
        ).InstrumentationScope("bakehouse")
        if exporter is None:
            endpoint = collector_address(settings.trace_endpoint or "")
            exporter = _Told(
                otlp.OTLPSpanExporter(endpoint=endpoint, timeout=SENDING_S),
                failed=export.SpanExportResult.FAILURE,
            )
        self._processor = export.BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUED,
            schedule_delay_millis=EVERY_MS,
            max_export_batch_size=QUEUED // 4,
            export_timeout_millis=SENDING_S * 1000,
        )

    def is_traced(self, decision_id: str) -> bool:
        """Whether spans of this decision are wanted."""
        return is_traced(decision_id, self.share)

    def add(self, span: Span) -> None:
        """Queue one; never waits."""
        trace, traced = self._trace, trace_id(span.decision_id)
        parent = span.parent_id
        self._processor.on_end(
            self._sdk.ReadableSpan(
                name=span.name,
                context=self._context(traced, span.span_id),
                parent=None if parent is None else self._context(traced, parent),
                resource=self._resource,
                attributes=dict(span.attributes) | {"decision_id": span.decision_id},
                kind=trace.SpanKind.SERVER if parent is None else trace.SpanKind.INTERNAL,
                instrumentation_scope=self._scope,
                status=trace.Status(trace.StatusCode.UNSET),
                start_time=span.start_ns,
                end_time=max(span.end_ns, span.start_ns),
            )
        )

    def _context(self, traced: int, span_id: int) -> Any:
        return self._trace.SpanContext(traced, span_id, is_remote=False, trace_flags=self._flags)

    def stop(self) -> None:
        """Send what is queued, for a second at most; what is left then is dropped."""
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(STOP_S)


def open_tracer(settings: Settings, part: str, *, process: str) -> Tracer | None:
    """What takes the spans of this part, None where nothing is traced.

    Raises:
        MissingDependency: an endpoint is set, and the extra `otel` is not installed.
    """
    if settings.trace_endpoint is None or settings.trace_share == 0:
        return None
    return Tracer(settings, part, process=process)


def collector_address(endpoint: str) -> str:
    """Where spans are posted: `/v1/traces` of the collector, unless a path says so already."""
    return endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH


class _Told:
    """An exporter whose failure is said once, and once more when it is over."""

    def __init__(self, exporter: Any, *, failed: Any) -> None:
        self._exporter = exporter
        self._failed = failed
        self._away = False

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._exporter.export(spans)
        away = result is self._failed
        if away and not self._away:
            log.warning("the collector does not take spans; they are dropped until it does")
        elif self._away and not away:
            log.info("the collector takes spans again")
        self._away = away
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed
