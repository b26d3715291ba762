"""Logs and metrics: the only way. Events are dotted names with fields, never prose, never secrets."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

log: structlog.stdlib.BoundLogger = structlog.get_logger("fairlead")

_SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie", "credential")
_SAFE_WORDS = ("client_token", "request_token", "token_id")  # idempotency tokens open nothing


def is_secret_name(name: str) -> bool:
    """Whether a field of this name would hold a secret."""
    return name not in _SAFE_WORDS and any(word in name.lower() for word in _SECRET_WORDS)


def _redact(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Last line of defence: a field named like a secret never reaches the log."""
    for key in event:
        if is_secret_name(key):
            event[key] = "[redacted]"
    return event


def _logger(*_: object) -> structlog.PrintLogger:
    """Standard error as it is now: whoever replaced it meanwhile may have closed the old one."""
    return structlog.PrintLogger(sys.stderr)


def configure(*, level: str = "info", form: Literal["json", "text"] = "json") -> None:
    """Log to standard error from now on; libraries from warnings upwards."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_logger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.root
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


registry = CollectorRegistry()
_counters: dict[str, Counter] = {}
_histograms: dict[str, Histogram] = {}
_gauges: dict[str, Gauge] = {}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


def count(name: str, amount: float = 1, labels: Mapping[str, str] | None = None) -> None:
    """Add to the counter `name` (a constant); label values come from small closed sets."""
    labels = labels or {}
    if name not in _counters:
        _counters[name] = Counter(name, name.replace("_", " "), sorted(labels), registry=registry)
    counter = _counters[name]
    (counter.labels(**labels) if labels else counter).inc(amount)


def observe(name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Record `value` (seconds, bytes: the name says which) in the histogram `name` (a constant)."""
    labels = labels or {}
    if name not in _histograms:
        _histograms[name] = Histogram(
            name, name.replace("_", " "), sorted(labels), registry=registry, buckets=_BUCKETS
        )
    histogram = _histograms[name]
    (histogram.labels(**labels) if labels else histogram).observe(value)


def gauge(name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Say that the gauge `name` (a constant) stands at `value` now."""
    labels = labels or {}
    if name not in _gauges:
        _gauges[name] = Gauge(name, name.replace("_", " "), sorted(labels), registry=registry)
    found = _gauges[name]
    (found.labels(**labels) if labels else found).set(value)


@contextmanager
def serving_metrics(port: int | None) -> Iterator[int | None]:
    """All metrics over HTTP on loopback at `port` (0: any free one; None: not) while the block is open."""
    if port is None:
        yield None
        return
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def exposition() -> bytes:
    """All metrics in the Prometheus text format."""
    return generate_latest(registry)
