"""What runs a backbone on CPUs: OpenVINO.

A backbone is converted once per job (`convert`) and handed to the workers as OpenVINO's intermediate
representation (https://docs.openvino.ai, "OpenVINO IR format"). Each worker compiles it for the processor
it is on, with one thread: a worker per core does more than threads that wait for each other. It does so
without torch, which would cost every worker a second and 200 MB.

In bf16 the products of a CNN are two to three times as fast where the processor has instructions for
them, and its features are nearly those of fp32. How nearly, each worker finds out on a few photographs
before it takes to bf16. What fp32 and bf16 give within that bound counts as the same features. Weights in
8-bit integers (`quantized`) are other weights, with features and a key of their own.

Shape suffixes: T frames, H W pixels, D features.
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
"""Frames that OpenVINO sees at a time; a frame's features do not depend on which ones are beside it."""

THREADS = 1
"""Of a worker, of which there is one for each core."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What a CNN may compute in, and OpenVINO's names for it; for int8, for what is not quantized."""


class ConversionError(Exception):
    """OpenVINO cannot run this backbone."""


@dataclass(frozen=True, kw_only=True)
class OpenVinoModel:
    """A backbone as OpenVINO reads it."""

    graph: bytes
    """the representation's XML"""
    weights: npt.NDArray[np.uint8]
    """its constants; an array, because Ray's object store shares it between the workers of a node"""
    probe_THWC: Frames
    """frames to compare engines on"""
    probed_TD: Features
    """their features: in fp32, or of a quantized backbone those that it had where it was quantized"""
    is_quantized: bool = False


def load(network: OpenVinoModel, name: str, weights: str, precision: str) -> Engine:
    """The engine for `network`.

    `precision` is fp32, bf16 or auto: bf16 where the processor has it and the probe's features agree with
    fp32's, else fp32. A quantized backbone runs in int8; raises ConversionError where this processor makes
    other features of it.
    """
    if network.is_quantized:
        return reproducing(openvino_engine(network, "int8"), network, name, weights)
    if precision != "auto":
        if precision == "bf16" and not has_bf16():
            print("--precision bf16: this processor has no instructions for it; fp32 takes less time", file=sys.stderr)
        return openvino_engine(network, precision)
    if has_bf16():
        half = openvino_engine(network, "bf16")
        if agreement(half(network.probe_THWC), network.probed_TD) >= LEAST_AGREEMENT:
            return half
    return openvino_engine(network, "fp32")


def has_bf16() -> bool:
    """Whether the processor has instructions for it."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def reproducing(engine: Engine, network: OpenVinoModel, name: str, weights: str) -> Engine:
    """`engine`, a quantized one, where its features of the probe are those that it had when it was made."""
    reproduction = agreement(engine(network.probe_THWC), network.probed_TD)
    if not reproduction >= LEAST_REPRODUCTION:
        raise ConversionError(
            f"--weights {weights}: this processor's 8-bit products give other features than those of the one that "
            f"{name} was quantized on (cosine {reproduction:.4f}); quantize on this kind, or take other weights"
        )
    return engine


def openvino_engine(converted: OpenVinoModel, precision: str) -> Engine:
    return Engine(name=f"openvino {precision}", run=OpenVinoSession(converted.graph, converted.weights, precision))


class OpenVinoSession:
    def __init__(self, graph: bytes, weights: npt.NDArray[np.uint8], precision: str) -> None:
        # The constants are held, because the compiled model may go on reading them from where they are.
        model, self._constants = read(graph, weights)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": THREADS,
            "NUM_STREAMS": 1,
            # Pinned, the workers of a machine would all sit on its first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = openvino().Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, frames_THWC: Frames) -> Features:
        starts = range(0, len(frames_THWC), FRAMES_PER_INFERENCE)
        chunks = (frames_THWC[start : start + FRAMES_PER_INFERENCE] for start in starts)
        return np.concatenate([self._request.infer({0: chunk}, share_inputs=True)[0] for chunk in chunks])


def read(graph: bytes, weights: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
    """OpenVINO's model, and the tensor of its constants, which must live as long as it does."""
    constants = openvino().Tensor(writable_view(weights), shared_memory=True)
    return openvino().Core().read_model(graph, constants), constants


def saved(model: Any) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """A model of OpenVINO's as `read` takes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.xml"
        openvino().save_model(model, path, compress_to_fp16=False)
        constants = np.frombuffer(path.with_suffix(".bin").read_bytes(), np.uint8)
        return path.read_bytes(), constants


def openvino() -> Any:
    """OpenVINO, without its telemetry: it reports its use to its makers unless that package is missing,
    and a job over someone's archive reports to nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module

    return module
