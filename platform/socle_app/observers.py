"""What becomes of observations: log lines by structlog, numbers by prometheus-client."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from socle_platform.events import Noted, RequestFailed, RequestServed

if TYPE_CHECKING:
    from socle_platform.events import Observation

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(*, level: str, json_lines: bool, stream: TextIO | None = None) -> None:
    """Sends every log line to `stream` (stderr): coloured for people, JSON lines for machines."""
    target = stream or sys.stderr
    renderer: structlog.typing.Processor
    if json_lines:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=target.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


class Log:
    """Writes observations as log lines, as logging is configured when it is made.

    Successful requests are worth `debug` only; failures tell their cause.
    """

    def __init__(self) -> None:
        self._logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, RequestServed):
            if observation.status >= 500:
                self._served(observation, "warning")
            elif self._logger.is_enabled_for(logging.DEBUG):
                self._served(observation, "debug")
        elif isinstance(observation, RequestFailed):
            self._logger.error(
                "request failed",
                service=observation.service,
                method=observation.method,
                path=observation.path,
                request_id=observation.request_id,
                exc_info=observation.error,
            )
        elif isinstance(observation, Noted):
            self._logger.log(
                _LEVELS.get(observation.level, logging.INFO), observation.text, service=observation.service
            )
        else:
            named = {field.name: getattr(observation, field.name) for field in fields(observation)}
            self._logger.log(_LEVELS[observation.LEVEL], _sentence(type(observation).__name__), **named)

    def _served(self, observation: RequestServed, level: str) -> None:
        self._logger.log(
            _LEVELS[level],
            f"{observation.method} {observation.path} {observation.status}",
            service=observation.service,
            ms=round(observation.duration * 1000, 2),
            request_id=observation.request_id,
        )


def _sentence(name: str) -> str:
    """`SchemaNotLoaded` → `schema not loaded`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


class Metrics:
    """Counts requests and their seconds by service, method and status class; renders the Prometheus text format."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "socle_requests", "Requests answered", ("service", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "socle_request_seconds", "Seconds to the last byte", ("service",), buckets=_BUCKETS, registry=self.registry
        )
        # Looking up a labelled child costs as much as several increments.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._failures = Counter(
            "socle_request_failures", "Requests that ended in an unexpected error", ("service",), registry=self.registry
        )

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, RequestServed):
            key = (observation.service, observation.method, observation.status)
            requests, seconds = self._children.get(key) or self._children_of(*key)
            requests.inc()
            seconds.observe(observation.duration)
        elif isinstance(observation, RequestFailed):
            self._failures.labels(observation.service).inc()

    def _children_of(self, service: str, method: str, status: int) -> tuple[Counter, Histogram]:
        known = method if method in _METHODS else "OTHER"
        found = self._requests.labels(service, known, str(status)), self._seconds.labels(service)
        if known == method:
            self._children[service, method, status] = found
        return found

    def render(self) -> bytes:
        return generate_latest(self.registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
