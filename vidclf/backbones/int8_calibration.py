"""Calibrating a backbone's 8-bit products on frames of the archive that it is to embed.

Post-training quantization by NNCF (https://github.com/openvinotoolkit/nncf): ranges of activations from the
frames, a scale for each channel of the weights, and a correction of the bias that the rounding brings.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
import torch

from vidclf import arguments, schema, storage
from vidclf.archive.manifest import sample_of
from vidclf.backbones import int8_weights, openvino_engine
from vidclf.backbones.agreement import Frames, agreement, reference_photos
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import Int8Weights
from vidclf.backbones.openvino_convert import convert, unpacked
from vidclf.backbones.openvino_engine import OpenVinoModel, OpenVinoSession
from vidclf.backbones.weights import load_weights
from vidclf.config import QuantizeConfig
from vidclf.errors import ConfigError
from vidclf.progress import ProgressLine
from vidclf.runs import outputs
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

FRAMES_PER_BATCH = 8

HELD_OUT = 4
"""One video in so many is not calibrated on: by its frames the drift is measured."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A quantized backbone beside what it was made of, on frames that it was not calibrated on."""

    num_frames: int
    int8: float
    """mean cosine of centred features with those of fp32"""
    bf16: float | None
    """the same for bf16, where the processor has it"""
    frame_s: dict[str, float]
    """CPU seconds a frame, by precision"""


def quantize(config: QuantizeConfig, manifest: pa.Table) -> str:
    """Write `--output`; the text to show. ConfigError for an unknown backbone, weights that are not there or are
    quantized already, and fewer than two videos that can be decoded."""
    arguments.check_outputs(config)
    if storage.exists(config.output) and not config.overwrite:
        raise ConfigError(f"--output {config.output}: is there; choose another name or --overwrite")
    state = load_weights(config.backbone, config.weights)
    if int8_weights.is_quantized(state):
        raise ConfigError(f"--weights {config.weights}: are quantized already")
    expected, taken = (preprocessing(config.backbone, where) for where in (config.weights, config.output))
    if expected != taken:
        raise ConfigError(
            f"--weights {config.weights}: were trained on other transforms than DEFAULT's, with which weights from a "
            "file are used"
        )
    torch.set_num_threads(1)
    videos, num_rejected = _frames(config, manifest)
    if len(videos) < 2:
        raise ConfigError(
            f"--input {config.input}: {len(videos)} of {num_rejected + len(videos)} sampled videos could "
            "be decoded, of which it takes two"
        )
    every = min(HELD_OUT, len(videos))
    held_out = np.concatenate(videos[::every])
    calibration = np.concatenate([frames for index, frames in enumerate(videos) if index % every])
    full = convert(config.backbone, config.weights, state)
    found = calibrated(full, config.backbone, calibration)
    drift = measure(full, found, held_out)
    storage.publish_bytes(
        outputs.real(config.output), safetensors.numpy.save({k: np.array(v) for k, v in found.state().items()})
    )
    return "\n".join(
        [
            f"calibrated  {len(calibration)} frames of {len(videos) - len(videos[::every])} videos"
            + (f", {num_rejected} more could not be decoded" if num_rejected else ""),
            *drift_lines(drift),
            f"weights     {config.output}, for --weights of extract",
        ]
    )


def drift_lines(drift: Drift) -> list[str]:
    """What was measured."""
    beside = "" if drift.bf16 is None else f"; bf16 {drift.bf16:.4f}"
    speeds = ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in drift.frame_s.items())
    return [
        f"agreement   int8 {drift.int8:.4f}{beside} (mean cosine of centred features with fp32, "
        f"{drift.num_frames} frames of other videos)",
        f"speed       {speeds} ms of a core a frame",
    ]


def calibrated(full: OpenVinoModel, name: str, frames_THWC: Frames) -> Int8Weights:
    """The network in 8-bit integers, with the ranges that its activations have on some frames."""
    model, weights = openvino_engine.read(full.graph, full.weights)
    quantized_model = _nncf_quantize(model, frames_THWC)
    del weights  # which the model may have read from until here
    graph, constants = openvino_engine.saved(quantized_model)
    probed_TD = OpenVinoSession(graph, constants, "int8")(reference_photos(frames_THWC.shape[1]))
    return Int8Weights(backbone=name, graph=graph, constants=constants, probed_TD=probed_TD)


def measure(full: OpenVinoModel, found: Int8Weights, frames_THWC: Frames) -> Drift:
    reference = openvino_engine.openvino_engine(full, "fp32")
    engines = {"int8": openvino_engine.openvino_engine(unpacked(found, frames_THWC.shape[1]), "int8")}
    if openvino_engine.has_bf16():
        engines["bf16"] = openvino_engine.openvino_engine(full, "bf16")
    reference_TD = reference.run(frames_THWC)
    agreed = {name: agreement(one.run(frames_THWC), reference_TD) for name, one in engines.items()}
    seconds = {name: _seconds_a_frame(one, frames_THWC) for name, one in {**engines, "fp32": reference}.items()}
    return Drift(num_frames=len(frames_THWC), int8=agreed["int8"], bf16=agreed.get("bf16"), frame_s=seconds)


def _seconds_a_frame(one: Engine, frames_THWC: Frames) -> float:
    started = time.process_time()
    one.run(frames_THWC)
    return (time.process_time() - started) / len(frames_THWC)


def _nncf_quantize(model: Any, frames_THWC: Frames) -> Any:
    openvino_engine.openvino()  # first, without its telemetry, which NNCF shares
    # NNCF shows its progress on stdout, which is this job's for results.
    with contextlib.redirect_stdout(sys.stderr):
        # Of which NNCF takes no more than its build of extensions, here for a GPU that is not missed.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(logging.ERROR)
        batches = [
            frames_THWC[start : start + FRAMES_PER_BATCH] for start in range(0, len(frames_THWC), FRAMES_PER_BATCH)
        ]
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            # Of EfficientNet-Lite0's features these choices bring the cosine from 0.90 to 0.99: the whole range of
            # activations, since what is rare in them matters, and the bias corrected on the frames.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            fast_bias_correction=False,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # All 8 bits: what saturates on processors without instructions for them is caught by the probe.
                overflow_fix=nncf.OverflowFix.DISABLE,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def _frames(config: QuantizeConfig, manifest: pa.Table) -> tuple[list[Frames], int]:
    """A few frames of each video of a sample, and how many of the sample could not be decoded."""
    transform = preprocessing(config.backbone, config.weights).transform
    transforms = FrameTransforms((transform,))
    plan = SamplingPlan(num_frames=config.frames_per_video)
    rows = manifest.take(sample_of(manifest.num_rows, config.sample, config.seed))
    decoder = SupervisedDecoder(plan, transforms, transforms.frame_bytes, DecodeLimits(timeout_s=config.decode_timeout))
    found: list[Frames] = []
    num_rejected = 0
    with ProgressLine("sample", rows.num_rows, "videos") as line:
        for done, row in enumerate(rows.select(["video_uri", schema.VIDEO_ID]).to_pylist(), start=1):
            try:
                video = decoder.decode(row["video_uri"], row[schema.VIDEO_ID])
                found.append(transforms.views(video.frames_THWC)[0])
            except VideoRejected as rejected:
                num_rejected += 1
                line.say(f"{row['video_uri']}: {rejected.reason.value}, {rejected.message}")
            line.update(done)
    decoder.close()
    return found, num_rejected
