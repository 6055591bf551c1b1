"""Inference engine that runs backbones (pretrained CNNs) on CPUs with OpenVINO.

A backbone is converted once per job (`openvino_convert`) and passed to the workers as OpenVINO's intermediate
representation (https://docs.openvino.ai, "OpenVINO IR format"). Each worker compiles it for its processor, with one
thread: one worker per core is faster than one process with several threads. Workers need no torch, which would cost
each of them a second and 200 MB.

With bf16 instructions a CNN is two to three times as fast in bf16 as in fp32, and its features are nearly the same.
Before a worker uses bf16, it measures the difference on a few photographs. Features within the bound count as the
same features as in fp32. 8-bit weights (`int8_weights`) are different weights, with different features and another
key.

Shape suffixes: T frames, H W pixels, C channels, D features.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.arrow import writable_view
from vidclf.backbones.agreement import LEAST_AGREEMENT, LEAST_REPRODUCTION, Features, Frames, agreement
from vidclf.backbones.engine import Engine

FRAMES_PER_INFERENCE = 16
"""Number of frames per call of OpenVINO. A frame's features do not depend on the other frames of the call."""

THREADS = 1
"""Number of threads in a worker. There is one worker per core."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precisions in which a CNN can run, each with OpenVINO's name.

For int8, the name is that of the layers that are not quantized.
"""


class ConversionError(Exception):
    """Error: OpenVINO cannot run this backbone."""


@dataclass(frozen=True, kw_only=True)
class OpenVinoModel:
    """A backbone in OpenVINO's intermediate representation, with reference features to check it elsewhere."""

    graph: bytes
    """structure of the CNN: the XML of the representation"""
    weights: npt.NDArray[np.uint8]
    """constants of the representation; an array, because Ray's object store shares it between the workers of a node"""
    probe_THWC: Frames
    """reference frames [T, H, W, 3] on which engines are compared"""
    probed_TD: Features
    """features [T, D] of the reference frames in fp32; for 8-bit weights, those on the machine that quantized them"""
    is_quantized: bool = False
    """whether the weights are 8-bit integers"""


def load(network: OpenVinoModel, name: str, weights: str, precision: str) -> Engine:
    """Return the engine that runs `network`, which is the backbone `name` with the weights `weights`.

    `precision`: fp32, bf16 or auto. auto is bf16 where the processor has it and its features of the reference frames
    agree with those of fp32, else fp32. 8-bit weights always run in int8. Raises ConversionError where this processor
    computes other features from 8-bit weights than the one that quantized them.
    """
    if network.is_quantized:
        return reproducing(openvino_engine(network, "int8"), network, name, weights)
    if precision != "auto":
        if precision == "bf16" and not has_bf16():
            print("--precision bf16: this processor has no bf16 instructions, fp32 would be faster", file=sys.stderr)
        return openvino_engine(network, precision)
    if has_bf16():
        half = openvino_engine(network, "bf16")
        if agreement(half(network.probe_THWC), network.probed_TD) >= LEAST_AGREEMENT:
            return half
    return openvino_engine(network, "fp32")


def has_bf16() -> bool:
    """Return whether this processor has bf16 instructions."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def reproducing(engine: Engine, network: OpenVinoModel, name: str, weights: str) -> Engine:
    """Return `engine`, which runs 8-bit weights, after checking that it works on this processor.

    The features of the reference frames in `network` must be those of the machine that quantized the weights; else
    ConversionError is raised. `name` and `weights` are for the error message.
    """
    reproduction = agreement(engine(network.probe_THWC), network.probed_TD)
    if not reproduction >= LEAST_REPRODUCTION:
        raise ConversionError(
            f"--weights {weights}: this processor computes other features from 8-bit weights than the one that "
            f"quantized {name} (mean cosine {reproduction:.4f}, must be at least {LEAST_REPRODUCTION}); quantize on "
            "this kind of processor, or use other weights"
        )
    return engine


def openvino_engine(converted: OpenVinoModel, precision: str) -> Engine:
    """Return an engine that runs `converted` in exactly this precision, without any check of the features."""
    return Engine(name=f"openvino {precision}", run=OpenVinoSession(converted.graph, converted.weights, precision))


class OpenVinoSession:
    """A backbone compiled for this processor: frames [T, H, W, 3] uint8 in, features [T, D] float32 out."""

    def __init__(self, graph: bytes, weights: npt.NDArray[np.uint8], precision: str) -> None:
        # The constants stay referenced, because the compiled model may go on reading them.
        model, self._constants = read(graph, weights)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": THREADS,
            "NUM_STREAMS": 1,
            # With pinning, all workers of a machine would run on its first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = openvino().Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, frames_THWC: Frames) -> Features:
        starts = range(0, len(frames_THWC), FRAMES_PER_INFERENCE)
        chunks = (frames_THWC[start : start + FRAMES_PER_INFERENCE] for start in starts)
        return np.concatenate([self._request.infer({0: chunk}, share_inputs=True)[0] for chunk in chunks])


def read(graph: bytes, weights: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
    """Make OpenVINO's model object from the graph (XML) and the constants.

    Returns the model and the tensor of its constants, which must live as long as the model.
    """
    constants = openvino().Tensor(writable_view(weights), shared_memory=True)
    return openvino().Core().read_model(graph, constants), constants


def saved(model: Any) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return the graph (XML) and the constants of OpenVINO's model object; `read` makes the object from these again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.xml"
        openvino().save_model(model, path, compress_to_fp16=False)
        constants = np.frombuffer(path.with_suffix(".bin").read_bytes(), np.uint8)
        return path.read_bytes(), constants


def openvino() -> Any:
    """Return the module `openvino`, imported without its telemetry.

    OpenVINO reports its use to its makers unless its telemetry package is missing. A job over a user's archive must
    not report to anyone.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module

    return module
