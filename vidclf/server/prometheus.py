"""Metrics of a server for Prometheus, at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vidclf.server.job_queue import JobQueue
from vidclf.server.refusals import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram's buckets."""


class ServeMetrics:
    """Counters of one server, in their own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("vidclf_serve_answers", "Answers, by HTTP status.", ["status"], registry=self._registry)
        self._videos = Counter(
            "vidclf_serve_videos",
            "Finished videos, by outcome: ok or the reason.",
            ["outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "vidclf_serve_video_seconds",
            "Seconds from the start of work on a video to its result.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._length = Gauge(
            "vidclf_serve_queue",
            "Videos in the queue (waiting) and at the worker (running).",
            ["where"],
            registry=self._registry,
        )

    def answered(self, status: int) -> None:
        """Count an answer with this HTTP status."""
        self._answers.labels(str(status)).inc()

    def done(self, reason: Reason | None, seconds: float) -> None:
        """Count a finished video; `reason` is None if it was classified."""
        self._videos.labels("ok" if reason is None else reason.value).inc()
        self._seconds.observe(seconds)

    def text(self, queue: JobQueue) -> bytes:
        """The metrics in Prometheus's text format."""
        for where, length in queue.lengths().items():
            self._length.labels(where).set(length)
        return generate_latest(self._registry)
