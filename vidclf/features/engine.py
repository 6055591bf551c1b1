"""What runs a backbone: OpenVINO on CPUs, torch on GPUs and where OpenVINO cannot.

A backbone is converted once per job, normalisation included, checked against torch, and handed to the
workers as OpenVINO's intermediate representation (https://docs.openvino.ai, "OpenVINO IR format"). Each
worker compiles it for the processor it is on, with one thread: a worker per core does more than threads
that wait for each other.

In bf16 the products of a CNN are two to three times as fast where the processor has instructions for
them, and its features are nearly those of fp32. How nearly, each worker finds out on a few photographs
before it takes to bf16. What fp32 and bf16 give within that bound counts as the same features. Weights in
8-bit integers (`quantized`) are other weights, with features and a key of their own.

Shape suffixes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidclf.features import backbone, quantized
from vidclf.features.backbone import Backbone
from vidclf.features.quantized import Quantized
from vidclf.features.repeats import distinct
from vidclf.features.store import writable_view

Frames = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

FRAMES_PER_INFERENCE = 16
"""Frames that OpenVINO sees at a time; a frame's features do not depend on which ones are beside it."""

LEAST_AGREEMENT = 0.99
"""Least cosine of centred features between bf16 and fp32, averaged over the probe's frames, for bf16 to
be taken of itself."""

LEAST_EQUALITY = 0.9999
"""The same between OpenVINO and torch, both in fp32: below it the conversion has failed."""

LEAST_REPRODUCTION = 0.999
"""The same between a quantized backbone here and where it was quantized."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What a CNN may compute in, and OpenVINO's names for it; for int8, for what is not quantized."""


class ConversionError(Exception):
    """OpenVINO cannot run this backbone."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A backbone as OpenVINO reads it."""

    graph: bytes
    """the representation's XML"""
    weights: npt.NDArray[np.uint8]
    """its constants; an array, because Ray's object store shares it between the workers of a node"""
    probed_TD: Features | None = None
    """of a quantized backbone, its features of the probe where it was quantized"""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A backbone that is ready to run: frames [T, H, W, 3] in, pooled features [T, D] out; frames of a video
    that are the same to the last bit are computed once."""

    name: str
    """runtime and precision, as `openvino bf16`"""
    run: Callable[[Frames], Features]

    def __call__(
        self, frames_THWC: Frames, num_frames_B: Sequence[int] | None = None, repeat_tolerance: float = 0.0
    ) -> Features:
        """`num_frames_B` tells where the frames are of several videos, one after the other. With a tolerance
        (`repeats.distinct`) frames that are nearly the same are computed once too."""
        num_frames_B = [len(frames_THWC)] if num_frames_B is None else num_frames_B
        firsts_U, place_T = distinct(frames_THWC, num_frames_B, repeat_tolerance)
        if len(firsts_U) == len(frames_THWC):
            return self.run(frames_THWC)
        return self.run(frames_THWC[firsts_U])[place_T]


def convert(name: str, weights: str, state: dict[str, npt.NDArray[np.generic]]) -> Converted:
    """The backbone that `backbone.build` makes of these, for OpenVINO; a quantized one as it is.

    Raises ConversionError where OpenVINO is not installed, cannot read the backbone, or computes
    something else than torch does.
    """
    if quantized.is_quantized(state):
        return unpacked(quantized.unpack(state, name, f"--weights {weights}"))
    network = backbone.build(name, weights, state, "cpu")
    side = network.preprocessing.transform.crop_size
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing is what OpenVINO's reader takes; torch calls it deprecated.
            warnings.simplefilter("ignore")
            model = openvino().convert_model(
                _WithNormalisation(network).eval(),
                example_input=torch.zeros(2, side, side, 3, dtype=torch.uint8),
                input=[openvino().PartialShape([-1, side, side, 3])],
            )
        converted = saved(model)
        probe_THWC = probe(side)
        equality = agreement(openvino_engine(converted, "fp32")(probe_THWC), _torch_run(network)(probe_THWC))
    except Exception as error:  # its reader raises what it trips over, and RuntimeError for the rest
        raise ConversionError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    if not equality >= LEAST_EQUALITY:
        raise ConversionError(f"its features agree with torch's to a cosine of {equality:.5f} only")
    return converted


def saved(model: Any) -> Converted:
    """A model of OpenVINO's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.xml"
        openvino().save_model(model, path, compress_to_fp16=False)
        constants = np.frombuffer(path.with_suffix(".bin").read_bytes(), np.uint8)
        return Converted(graph=path.read_bytes(), weights=constants)


def unpacked(found: Quantized) -> Converted:
    return Converted(graph=found.graph, weights=found.constants, probed_TD=found.probed_TD)


def load(
    network: Converted | dict[str, npt.NDArray[np.generic]], name: str, weights: str, device: str, precision: str
) -> Engine:
    """The engine for `network`: OpenVINO's where it has been converted, torch's for a state dict.

    `precision` is fp32, bf16 or auto: bf16 for OpenVINO where the processor has it and the probe's
    features agree with fp32's, else fp32. A quantized backbone runs in int8; raises ConversionError where this
    processor makes other features of it.
    """
    if not isinstance(network, Converted):
        module = backbone.build(name, weights, network, device)
        used = "bf16" if precision == "bf16" else "fp32"
        return Engine(name=f"torch {device} {used}", run=_torch_run(module, is_bf16=used == "bf16"))
    if network.probed_TD is not None:
        return reproducing(openvino_engine(network, "int8"), network.probed_TD, name, weights)
    if precision != "auto":
        return openvino_engine(network, precision)
    full = openvino_engine(network, "fp32")
    if not has_bf16():
        return full
    side = backbone.preprocessing(name, weights).transform.crop_size
    return faster_of(full, openvino_engine(network, "bf16"), probe(side))


def has_bf16() -> bool:
    """Whether the processor has instructions for it."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def reproducing(engine: Engine, probed_TD: Features, name: str, weights: str) -> Engine:
    """`engine`, a quantized one, where its features of the probe are those that it had when it was made."""
    side = backbone.preprocessing(name, weights).transform.crop_size
    reproduction = agreement(engine(probe(side)), probed_TD)
    if not reproduction >= LEAST_REPRODUCTION:
        raise ConversionError(
            f"--weights {weights}: this processor's 8-bit products give other features than those of the one that "
            f"{name} was quantized on (cosine {reproduction:.4f}); quantize on this kind, or take other weights"
        )
    return engine


def faster_of(full: Engine, half: Engine, probe_THWC: Frames) -> Engine:
    """`half`, the faster one, unless its features differ too much from those of `full`."""
    return half if agreement(half(probe_THWC), full(probe_THWC)) >= LEAST_AGREEMENT else full


def agreement(some_TD: Features, reference_TD: Features) -> float:
    """Mean cosine over the frames, after the mean of `reference_TD` is taken off both: without that,
    what all frames share would hide the differences."""
    centre_D = reference_TD.mean(axis=0)
    a_TD, b_TD = (values.astype(np.float64) - centre_D for values in (some_TD, reference_TD))
    norms_T = np.linalg.norm(a_TD, axis=1) * np.linalg.norm(b_TD, axis=1)
    return float(((a_TD * b_TD).sum(axis=1) / norms_T).mean())


def probe(side: int) -> Frames:
    """Frames [8, side, side, 3] to compare engines on: parts of two photographs (scikit-learn's samples),
    each as it is and in four grey levels a channel, as drawings and pages are flat."""
    from sklearn.datasets import load_sample_images

    parts = [
        photograph[y : y + 2 * side : step][:side, x : x + 2 * side : step][:, :side]
        for photograph in (np.tile(image, (3, 3, 1)) for image in load_sample_images().images)
        for step, y, x in ((1, 60, 120), (2, 0, 300))
    ]
    return np.ascontiguousarray(np.stack([*parts, *(part // 64 * 64 for part in parts)]))


class _WithNormalisation(nn.Module):
    """The whole of a backbone in one graph: frames [T, H, W, 3] uint8 in."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_THWC: Tensor) -> Tensor:
        features_TD: Tensor = self.network.embed(frames_THWC)
        return features_TD


def openvino_engine(converted: Converted, precision: str) -> Engine:
    return Engine(name=f"openvino {precision}", run=_OpenVinoRun(converted, precision))


class _OpenVinoRun:
    def __init__(self, converted: Converted, precision: str) -> None:
        # The constants are held, because the compiled model may go on reading them from where they are.
        model, self._constants = read(converted)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            # Pinned, the workers of a machine would all sit on its first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = openvino().Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, frames_THWC: Frames) -> Features:
        starts = range(0, len(frames_THWC), FRAMES_PER_INFERENCE)
        chunks = (frames_THWC[start : start + FRAMES_PER_INFERENCE] for start in starts)
        return np.concatenate([self._request.infer({0: chunk}, share_inputs=True)[0] for chunk in chunks])


def read(converted: Converted) -> tuple[Any, Any]:
    """OpenVINO's model, and the tensor of its constants, which must live as long as it does."""
    constants = openvino().Tensor(writable_view(converted.weights), shared_memory=True)
    return openvino().Core().read_model(converted.graph, constants), constants


def _torch_run(network: Backbone, is_bf16: bool = False) -> Callable[[Frames], Features]:
    def run(frames_THWC: Frames) -> Features:
        with torch.autocast(network.scale.device.type, torch.bfloat16, enabled=is_bf16):
            features_TD: Features = network(torch.from_numpy(frames_THWC)).numpy()
        return features_TD

    return run


def openvino() -> Any:
    """OpenVINO, without its telemetry: it reports its use to its makers unless that package is missing,
    and a job over someone's archive reports to nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module

    return module
