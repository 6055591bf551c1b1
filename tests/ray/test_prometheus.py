"""Prometheus metrics of a pipeline, scraped from Ray's endpoint."""

from __future__ import annotations

import re
import time
import urllib.request
from functools import partial

import pytest
import ray

from vidclf.pipeline.prometheus import PipelineMetrics
from vidclf.tally import Tally

RUN = "s3://bucket/features"


def scraped() -> dict[str, float]:
    """Metrics of `RUN` on this node, by name and those labels that Ray does not add."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    metrics = {}
    for name, labels, value in re.findall(r"^ray_(vidclf_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        if f'run="{RUN}"' not in labels:  # of another test of the session
            continue
        kept_labels = ",".join(sorted(re.findall(r'(?:reason|state|le)="[^"]*"', labels)))
        metrics[f"{name}{{{kept_labels}}}"] = float(value)
    return metrics


@pytest.mark.usefixtures("ray_session")
def test_counters_histograms_and_the_gauge_reach_prometheus() -> None:
    tally = Tally.start(partial(PipelineMetrics, RUN))
    tally.add.remote({"decoded": 1, "decode_s": 0.3, "frames_decoded": 73})
    tally.add.remote({"decoded": 1, "decode_s": 0.01, "frames_decoded": 0})
    tally.add.remote({"decoded": 1, "decode_s": 3.0, "frames_decoded": 50})
    tally.add.remote({"done": 2, "ok": 1, "rejected:truncated": 1, "cnn_s": 0.5, "frames_embedded": 73})
    ray.get(tally.read.remote())
    deadline = time.monotonic() + 300
    while 'vidclf_failures_total{reason="truncated"}' not in scraped():
        assert time.monotonic() < deadline, "no vidclf metric was exported in 300 s"
        time.sleep(1)
    metrics = scraped()
    assert metrics['vidclf_videos_total{state="ok"}'] == 1
    assert metrics['vidclf_videos_total{state="quarantined"}'] == 1
    assert metrics['vidclf_failures_total{reason="truncated"}'] == 1
    assert metrics["vidclf_decode_seconds_count{}"] == 3
    assert metrics['vidclf_decode_seconds_bucket{le="0.5"}'] == 2
    assert metrics["vidclf_cnn_seconds_count{}"] == 2
    assert metrics['vidclf_cnn_seconds_bucket{le="0.2"}'] == 0
    assert metrics['vidclf_cnn_seconds_bucket{le="0.5"}'] == 2
    assert metrics["vidclf_frames_in_flight{}"] == 50
