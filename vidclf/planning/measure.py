"""Decoding and CNN time per video on this machine, measured on a sample of an archive.

Shape suffixes: T frames, H W pixels, C channels.
"""

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
from vidclf.backbones import int8_weights, onnx_models, weights
from vidclf.backbones.agreement import Frames
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.engine import Engine
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.backbones.resolve import resolve
from vidclf.config import PlanConfig
from vidclf.errors import ConfigError
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.engines import check_device, load_engine
from vidclf.video.decode import decode_video
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.sampling import SamplingPlan

CNN_VIDEOS = 10
"""Number of videos of the sample that go through the CNN; few, because its time hardly depends on the video."""


@dataclass(frozen=True, kw_only=True)
class SampleMeasurement:
    """Times for decoding and CNN, measured on a sample of videos."""

    num_videos: int
    """number of videos in the sample, rejected ones included"""
    reasons: dict[str, int]
    """number of rejected videos by reject reason"""
    mean_duration_s: float
    """mean duration in seconds of the sample's videos that were not rejected"""
    decode_s: tuple[float, ...]
    """seconds that a decode worker took, for each video of the sample, rejected ones included"""
    cnn_s: dict[str, float]
    """CNN seconds per video, by name of the engine (runtime and precision); on CPUs with one thread"""
    engine: str
    """name of the engine (runtime and precision) that a job would choose, a key of `cnn_s`"""

    @property
    def decode_mean_s(self) -> float:
        """Mean decoding time per video of the sample, in seconds."""
        return statistics.fmean(self.decode_s)

    @property
    def decode_error_s(self) -> float:
        """Standard error of the mean decoding time per video, in seconds; 0 for a sample of one video."""
        return statistics.stdev(self.decode_s) / len(self.decode_s) ** 0.5 if len(self.decode_s) > 1 else 0.0

    @property
    def cnn_mean_s(self) -> float:
        """Mean CNN time per video of the sample, in seconds, with the engine that a job would choose.

        Rejected videos count with 0 seconds.
        """
        num_ok = self.num_videos - sum(self.reasons.values())
        return self.cnn_s[self.engine] * num_ok / self.num_videos


def measure(config: PlanConfig, manifest: pa.Table, is_gpu: bool) -> SampleMeasurement:
    """Measure the times for a sample of the videos in `manifest` on this machine.

    The whole sample is decoded with the pipeline's decode stage, and `CNN_VIDEOS` of its videos go through the CNN.
    `is_gpu`: whether the CNN runs on a GPU. Raises ConfigError for an unknown backbone, weights that cannot be read,
    and a sample in which no video can be decoded.
    """
    model = resolve(config.backbone, config.weights)
    state = weights.read_weights(model)
    int8_weights.check_precision(state, config.weights, config.precision)
    check_device(state, model, float(is_gpu))
    transform = model.preprocessing.transform
    plan = SamplingPlan.of(config)
    rows = manifest.take(sample_of(manifest.num_rows, config.sample, config.seed))
    decode_counts: list[dict[str, float]] = []
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: decode_counts.extend(reports)))
    limits = DecodeLimits(timeout_s=config.decode_timeout)
    worker = DecodeVideos(plan, FrameTransforms((transform,)), limits, tally)
    # The first video is decoded twice, because its first time includes the start of the decoder process.
    list(worker(rows.slice(0, 1)))
    decode_counts.clear()
    columns = ["video_uri", schema.VIDEO_ID, "duration_s", "reject_reason"]
    decoded = pa.concat_tables([row.select(columns) for row in worker(rows)]).to_pylist()
    ok = [row for row in decoded if row["reject_reason"] is None]
    videos = [decode_video(row["video_uri"], plan, transform, row[schema.VIDEO_ID]) for row in ok[:CNN_VIDEOS]]
    if not videos:
        raise ConfigError(f"--input {config.input}: none of {len(decoded)} sampled videos could be decoded")
    cnn_s, chosen = _measure_cnn(config, model, state, [video.frames_THWC for video in videos], is_gpu)
    return SampleMeasurement(
        num_videos=len(decoded),
        reasons=dict(Counter(str(row["reject_reason"]) for row in decoded if row["reject_reason"] is not None)),
        mean_duration_s=statistics.fmean(row["duration_s"] for row in ok),
        decode_s=tuple(counts["decode_s"] for counts in decode_counts),
        cnn_s=cnn_s,
        engine=chosen,
    )


def _measure_cnn(
    config: PlanConfig,
    model: BackboneModel,
    state: dict[str, npt.NDArray[np.generic]],
    videos: list[Frames],
    is_gpu: bool,
) -> tuple[dict[str, float], str]:
    """Measure the CNN on the frames of some videos.

    Returns the CNN seconds per video by engine (runtime and precision), and the name of the engine that a job would
    choose. Measured are the engine of `--precision` and the one in fp32. `state`: the CNN's weights.
    """
    torch.set_num_threads(1)
    device_name = device.claim(float(is_gpu))
    network: OpenVinoModel | dict[str, npt.NDArray[np.generic]] = state
    if not is_gpu:
        try:
            network = convert(model, state)
        except ConversionError as error:
            if onnx_models.is_onnx(state):
                raise ConfigError(f"--backbone {model.name}: {error}") from error
            print(f"OpenVINO cannot run {config.backbone}: {error}", file=sys.stderr)
    chosen = load_engine(network, model, device_name, config.precision)
    full = load_engine(network, model, device_name, "fp32")
    engines = {engine.name: engine for engine in (chosen, full)}
    return {name: _seconds_per_video(engine, videos) for name, engine in engines.items()}, chosen.name


def _seconds_per_video(cnn: Engine, videos: list[Frames]) -> float:
    cnn(videos[0])  # not measured: the first call allocates memory
    started = time.perf_counter()
    for frames_THWC in videos:
        cnn(frames_THWC)
    return (time.perf_counter() - started) / len(videos)
