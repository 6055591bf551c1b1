"""The `quantize` job: turns a backbone's weights into 8-bit integers, fitted to frames of the archive to process.

Post-training quantization with NNCF (https://github.com/openvinotoolkit/nncf): activation ranges from the frames, a
scale per channel of the weights, and a correction of the bias that rounding causes.

Shape suffixes: T frames, H W pixels, C channels, D features.
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

from vidclf import preflight, schema, storage
from vidclf.archive.manifest import sample_of
from vidclf.backbones import int8_weights, openvino_engine
from vidclf.backbones.agreement import Frames, agreement, reference_photos
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import Int8Weights
from vidclf.backbones.openvino_convert import convert, unpacked
from vidclf.backbones.openvino_engine import OpenVinoModel, OpenVinoSession
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import read_weights
from vidclf.config import QuantizeConfig
from vidclf.errors import ConfigError
from vidclf.progress import ProgressLine
from vidclf.runs import lease, outputs
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

FRAMES_PER_BATCH = 8
"""Number of frames per calibration step of NNCF."""

HELD_OUT = 4
"""One in this many videos is not used for calibration; on its frames the change of the features is measured."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How well and how fast a quantized backbone works, measured on frames that were not used for calibration."""

    num_frames: int
    """number of frames on which this was measured"""
    int8: float
    """agreement of the 8-bit features with those in fp32: mean cosine after centring (`agreement.agreement`)"""
    bf16: float | None
    """the same agreement for features in bf16 instead of 8 bits; None if the processor has no bf16"""
    frame_s: dict[str, float]
    """CPU seconds per frame, by the name of the precision"""


def quantize(config: QuantizeConfig, manifest: pa.Table) -> str:
    """Quantize a backbone on a sample of the videos in `manifest`, and write the 8-bit weights to `--output`.

    Returns the text to print. Raises ConfigError for an unknown backbone, for weights that cannot be read or are
    quantized already, and where fewer than two videos can be decoded.
    """
    preflight.check_outputs(config)
    if storage.exists(config.output) and not config.overwrite:
        raise ConfigError(f"--output {config.output}: exists already; choose another name or --overwrite")
    model = resolve(config.backbone, config.weights)
    state = read_weights(model)
    if int8_weights.is_quantized(state):
        raise ConfigError(f"--weights {config.weights}: are quantized already")
    if model.preprocessing != resolve(config.backbone, config.output).preprocessing:
        raise ConfigError(
            f"--weights {config.weights}: were trained with other transforms than DEFAULT's, and weights from a file "
            "are used with DEFAULT's"
        )
    torch.set_num_threads(1)
    videos, num_rejected = _sampled_frames(config, model, manifest)
    if len(videos) < 2:
        raise ConfigError(
            f"--input {config.input}: {len(videos)} of {num_rejected + len(videos)} sampled videos could be decoded, "
            "calibration needs at least two"
        )
    held_out_every = min(HELD_OUT, len(videos))
    held_out = np.concatenate(videos[::held_out_every])
    calibration = np.concatenate([frames for index, frames in enumerate(videos) if index % held_out_every])
    full = convert(model, state)
    quantized = calibrated(full, model.label, calibration)
    drift = measure(full, quantized, held_out)
    arrays = {name: np.array(value) for name, value in quantized.state().items()}
    lease.guard(config.output).check()
    storage.publish_bytes(outputs.real(config.output), safetensors.numpy.save(arrays))
    num_calibrated = len(videos) - len(videos[::held_out_every])
    return "\n".join(
        [
            f"calibrated  {len(calibration)} frames of {num_calibrated} videos"
            + (f", {num_rejected} more could not be decoded" if num_rejected else ""),
            *drift_lines(drift),
            f"weights     {config.output}, for --weights of extract",
        ]
    )


def drift_lines(drift: Drift) -> list[str]:
    """Return the lines of text that report a measured `Drift` to the user."""
    bf16 = "" if drift.bf16 is None else f"; bf16 {drift.bf16:.4f}"
    speeds = ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in drift.frame_s.items())
    return [
        f"agreement   int8 {drift.int8:.4f}{bf16} (mean cosine of centred features with fp32, "
        f"{drift.num_frames} frames of other videos)",
        f"speed       {speeds} ms of one core per frame",
    ]


def calibrated(full: OpenVinoModel, name: str, frames_THWC: Frames) -> Int8Weights:
    """Return a backbone with 8-bit weights, with the ranges of its activations taken from `frames_THWC`.

    `name`: its `BackboneModel.label`. `full`: the same backbone in OpenVINO's format before quantization.
    """
    model, weights = openvino_engine.read(full.graph, full.weights)
    quantized_model = _nncf_quantize(model, frames_THWC)
    del weights  # only now, because the model may have read from it until here
    graph, constants = openvino_engine.saved(quantized_model)
    probed_TD = OpenVinoSession(graph, constants, "int8")(reference_photos(frames_THWC.shape[1]))
    return Int8Weights(backbone=name, graph=graph, constants=constants, probed_TD=probed_TD)


def measure(full: OpenVinoModel, quantized: Int8Weights, frames_THWC: Frames) -> Drift:
    """Measure a quantized backbone on frames: agreement with fp32 and speed; also for bf16 if the processor has it.

    `full`: the same backbone before quantization.
    """
    reference = openvino_engine.openvino_engine(full, "fp32")
    engines = {"int8": openvino_engine.openvino_engine(unpacked(quantized, frames_THWC.shape[1]), "int8")}
    if openvino_engine.has_bf16():
        engines["bf16"] = openvino_engine.openvino_engine(full, "bf16")
    reference_TD = reference.run(frames_THWC)
    cosines = {name: agreement(engine.run(frames_THWC), reference_TD) for name, engine in engines.items()}
    engines["fp32"] = reference
    seconds = {name: _seconds_per_frame(engine, frames_THWC) for name, engine in engines.items()}
    return Drift(num_frames=len(frames_THWC), int8=cosines["int8"], bf16=cosines.get("bf16"), frame_s=seconds)


def _seconds_per_frame(engine: Engine, frames_THWC: Frames) -> float:
    started = time.process_time()
    engine.run(frames_THWC)
    return (time.process_time() - started) / len(frames_THWC)


def _nncf_quantize(model: Any, frames_THWC: Frames) -> Any:
    """Return OpenVINO's model object `model` after quantization by NNCF, calibrated on `frames_THWC`."""
    openvino_engine.openvino()  # imported first, without its telemetry, which NNCF shares
    # NNCF prints its progress on stdout, which this job keeps for results.
    with contextlib.redirect_stdout(sys.stderr):
        # Importing NNCF builds torch extensions for a GPU, and torch warns where there is none.
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
            # These choices raise the cosine of EfficientNet-Lite0's features from 0.90 to 0.99: the whole range of the
            # activations, because rare values matter, and the slower bias correction on the frames.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            fast_bias_correction=False,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # All 8 bits. Products that saturate on older processors are found by the reference photos.
                overflow_fix=nncf.OverflowFix.DISABLE,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def _sampled_frames(config: QuantizeConfig, model: BackboneModel, manifest: pa.Table) -> tuple[list[Frames], int]:
    """Decode a sample of the videos in `manifest` for the backbone `model`.

    Returns a list with the frames [T, H, W, 3] of each decodable video, and the number of videos that were rejected.
    """
    transforms = FrameTransforms((model.preprocessing.transform,))
    plan = SamplingPlan(num_frames=config.frames_per_video)
    rows = manifest.take(sample_of(manifest.num_rows, config.sample, config.seed))
    decoder = SupervisedDecoder(plan, transforms, transforms.frame_bytes, DecodeLimits(timeout_s=config.decode_timeout))
    videos: list[Frames] = []
    num_rejected = 0
    with ProgressLine("sample", rows.num_rows, "videos") as line:
        for done, row in enumerate(rows.select(["video_uri", schema.VIDEO_ID]).to_pylist(), start=1):
            try:
                video = decoder.decode(row["video_uri"], row[schema.VIDEO_ID])
                videos.append(transforms.views(video.frames_THWC)[0])
            except VideoRejected as rejected:
                num_rejected += 1
                line.say(f"{row['video_uri']}: {rejected.reason.value}, {rejected.message}")
            line.update(done)
    decoder.close()
    return videos, num_rejected
