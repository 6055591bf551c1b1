"""What a server tells Prometheus at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vidclf.server.job_queue import JobQueue
from vidclf.server.refusals import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram's buckets."""


class ServeMetrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("vidclf_serve_answers", "Answers, by HTTP status.", ["status"], registry=self._registry)
        self._videos = Counter(
            "vidclf_serve_videos", "Videos done, by outcome: ok or the reason.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "vidclf_serve_video_seconds",
            "Seconds from taking up a video to its result.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._length = Gauge("vidclf_serve_queue", "Videos by where they are.", ["where"], registry=self._registry)

    def answered(self, status: int) -> None:
        self._answers.labels(str(status)).inc()

    def done(self, reason: Reason | None, seconds: float) -> None:
        self._videos.labels("ok" if reason is None else reason.value).inc()
        self._seconds.observe(seconds)

    def text(self, queue: JobQueue) -> bytes:
        for where, length in queue.lengths().items():
            self._length.labels(where).set(length)
        return generate_latest(self._registry)
