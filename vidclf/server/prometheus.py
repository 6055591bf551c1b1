"""Metrics of a server for the monitoring system Prometheus, which reads them at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vidclf.server.job_queue import JobQueue
from vidclf.server.refusals import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds, in seconds, of the buckets in the histogram of the time per video."""


class ServeMetrics:
    """Metrics of one server: counters of answers and videos, times per video, and the queue's length.

    They have their own registry, so that several servers in one process do not mix.
    """

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
        """Count an HTTP answer with this status."""
        self._answers.labels(str(status)).inc()

    def done(self, reason: Reason | None, seconds: float) -> None:
        """Count a finished video and the seconds of its work.

        `reason` tells why the video failed; None if it was classified.
        """
        self._videos.labels("ok" if reason is None else reason.value).inc()
        self._seconds.observe(seconds)

    def text(self, queue: JobQueue) -> bytes:
        """All metrics as bytes in Prometheus's text format, including the current length of `queue`."""
        for where, length in queue.lengths().items():
            self._length.labels(where).set(length)
        return generate_latest(self._registry)
