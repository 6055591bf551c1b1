"""Prometheus metrics of a running pipeline, for dashboards. [Ray]

Ray's metrics agents serve the metrics under names that begin with `ray_vidclf_`.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

SECONDS = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]
"""Upper bounds of the buckets in histograms of times per video, in seconds."""


class PipelineMetrics:
    """Prometheus metrics of one job: counters of videos, histograms of seconds, and the number of frames in flight.

    The counts come from the tally, the actor to which the pipeline's stages report.
    """

    def __init__(self, run: str) -> None:
        """`run`: the output directory. In the metrics this tag distinguishes the jobs of one cluster."""
        self._videos = Counter("vidclf_videos", "Videos done, by state: ok or quarantined.", ("run", "state"))
        self._failures = Counter("vidclf_failures", "Videos quarantined, by reject reason.", ("run", "reason"))
        self._decode = Histogram("vidclf_decode_seconds", "Seconds to decode a video.", SECONDS, ("run",))
        self._cnn = Histogram("vidclf_cnn_seconds", "Seconds per video in the CNN and head.", SECONDS, ("run",))
        self._in_flight = Gauge("vidclf_frames_in_flight", "Frames decoded and not yet embedded.", ("run",))
        self._run = run
        self._num_in_flight = 0.0

    def observe(self, counts: dict[str, float]) -> None:
        """Add the counts of one report of a pipeline stage to the metrics.

        The keys of `counts` are those that the progress line uses, such as `decoded` and `cnn_s`.
        """
        run = {"run": self._run}
        if "decoded" in counts:
            self._decode.observe(counts["decode_s"], run)
        if "done" in counts:
            for _ in range(int(counts["done"])):
                self._cnn.observe(counts["cnn_s"] / counts["done"], run)
            rejected = {name.split(":")[1]: count for name, count in counts.items() if name.startswith("rejected:")}
            for reason, count in rejected.items():
                self._failures.inc(count, {**run, "reason": reason})
            for state, count in (("ok", counts["ok"]), ("quarantined", sum(rejected.values()))):
                if count:
                    self._videos.inc(count, {**run, "state": state})
        self._num_in_flight += counts.get("frames_decoded", 0) - counts.get("frames_embedded", 0)
        # After the loss of a machine videos are done again, and one of their two counts may never have been reported.
        self._in_flight.set(max(self._num_in_flight, 0.0), run)
