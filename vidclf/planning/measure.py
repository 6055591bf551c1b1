"""What the videos of an archive cost on this machine, measured on a sample of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidclf import device, schema
from vidclf.archive.manifest import sample_of
from vidclf.backbones import int8_weights, weights
from vidclf.backbones.agreement import Frames
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.engine import Engine
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.config import PlanConfig
from vidclf.errors import ConfigError
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.engines import load_engine
from vidclf.video.decode import decode_video
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.sampling import SamplingPlan

CNN_VIDEOS = 10
"""Videos of the sample that go through the CNN. What it takes hardly depends on the video."""


@dataclass(frozen=True, kw_only=True)
class SampleMeasurement:
    """A sample, as it was measured."""

    num_videos: int
    reasons: dict[str, int]
    """of the videos that were rejected"""
    mean_duration_s: float
    """of those that were not"""
    decode_s: tuple[float, ...]
    """seconds of a decode worker for each video, rejected ones too"""
    cnn_s: dict[str, float]
    """seconds a video in the CNN, by engine, one thread each"""
    engine: str
    """the one that a job takes"""

    @property
    def decode_mean_s(self) -> float:
        return statistics.fmean(self.decode_s)

    @property
    def decode_error_s(self) -> float:
        """Standard error of the mean."""
        return statistics.stdev(self.decode_s) / len(self.decode_s) ** 0.5 if len(self.decode_s) > 1 else 0.0

    @property
    def cnn_mean_s(self) -> float:
        """A video's seconds in the CNN; a rejected one has none."""
        ok = self.num_videos - sum(self.reasons.values())
        return self.cnn_s[self.engine] * ok / self.num_videos


def measure(config: PlanConfig, manifest: pa.Table, is_gpu: bool) -> SampleMeasurement:
    """Decode a sample of the manifest with the pipeline's decode worker, and embed some of it.

    Raises ConfigError for an unknown backbone, weights that are not there, and a sample without a good video.
    """
    state = weights.load_weights(config.backbone, config.weights)
    int8_weights.check_precision(state, config.weights, config.precision)
    int8_weights.check_device(state, config.weights, float(is_gpu))
    transform = preprocessing(config.backbone, config.weights).transform
    plan = SamplingPlan.of(config)
    rows = manifest.take(sample_of(manifest.num_rows, config.sample, config.seed))
    told: list[dict[str, float]] = []
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: told.extend(reports)))
    limits = DecodeLimits(timeout_s=config.decode_timeout)
    worker = DecodeVideos(plan, FrameTransforms((transform,)), limits, tally)
    # The first video waits for the decoder process to start, which no other one does.
    list(worker(rows.slice(0, 1)))
    told.clear()
    facts = ["video_uri", schema.VIDEO_ID, "duration_s", "reject_reason"]
    decoded = pa.concat_tables([row.select(facts) for row in worker(rows)]).to_pylist()
    ok = [row for row in decoded if row["reject_reason"] is None]
    videos = [decode_video(row["video_uri"], plan, transform, row[schema.VIDEO_ID]) for row in ok[:CNN_VIDEOS]]
    if not videos:
        raise ConfigError(f"--input {config.input}: none of {len(decoded)} sampled videos could be decoded")
    cnn_s, taken = _measure_cnn(config, state, [video.frames_THWC for video in videos], is_gpu)
    return SampleMeasurement(
        num_videos=len(decoded),
        reasons=dict(Counter(str(row["reject_reason"]) for row in decoded if row["reject_reason"] is not None)),
        mean_duration_s=statistics.fmean(row["duration_s"] for row in ok),
        decode_s=tuple(counts["decode_s"] for counts in told),
        cnn_s=cnn_s,
        engine=taken,
    )


def _measure_cnn(
    config: PlanConfig, state: dict[str, npt.NDArray[np.generic]], videos: list[Frames], is_gpu: bool
) -> tuple[dict[str, float], str]:
    """Seconds a video by engine, and the name of the engine that a job takes."""
    torch.set_num_threads(1)
    own_device = device.claim(float(is_gpu))
    network: OpenVinoModel | dict[str, npt.NDArray[np.generic]] = state
    if not is_gpu:
        try:
            network = convert(config.backbone, config.weights, state)
        except ConversionError as error:
            print(f"OpenVINO cannot run {config.backbone}: {error}", file=sys.stderr)
    taken = load_engine(network, config.backbone, config.weights, own_device, config.precision)
    full = load_engine(network, config.backbone, config.weights, own_device, "fp32")
    seconds = {one.name: _seconds_a_video(one, videos) for one in {cnn.name: cnn for cnn in (taken, full)}.values()}
    return seconds, taken.name


def _seconds_a_video(cnn: Engine, videos: list[Frames]) -> float:
    cnn(videos[0])  # the first call allocates
    started = time.perf_counter()
    for frames_THWC in videos:
        cnn(frames_THWC)
    return (time.perf_counter() - started) / len(videos)
