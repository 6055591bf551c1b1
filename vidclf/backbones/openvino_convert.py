"""Conversion of a backbone and its normalisation of frames from torch to OpenVINO, with a check that both agree.

Shape suffixes: T frames, H W pixels, C channels, D features.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidclf.backbones import cnn, int8_weights, onnx_models, openvino_engine
from vidclf.backbones.agreement import LEAST_EQUALITY, agreement, reference_photos
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.int8_weights import Int8Weights
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel, OpenVinoSession
from vidclf.backbones.torch_engine import eager


def convert(model: BackboneModel, state: dict[str, npt.NDArray[np.generic]]) -> OpenVinoModel:
    """Convert the backbone `model` with the weights `state`, from `weights.read_weights`, to OpenVINO.

    8-bit weights are a converted model already and are only unpacked. Raises ConversionError where OpenVINO is not
    installed, cannot read the backbone, or computes other features than torch.
    """
    if int8_weights.is_quantized(state):
        return unpacked(int8_weights.unpack(state, model.label, f"--weights {model.weights}"), model.side)
    if model.library == "onnx":
        return onnx_models.converted(model, state)
    network = cnn.build(model, state, "cpu")
    side = model.side
    probe_THWC = reference_photos(side)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # OpenVINO's converter traces the module, and torch warns that tracing is deprecated.
            warnings.simplefilter("ignore")
            converted = openvino_engine.openvino().convert_model(
                _WithNormalisation(network).eval(),
                example_input=torch.zeros(2, side, side, 3, dtype=torch.uint8),
                input=[openvino_engine.openvino().PartialShape([-1, side, side, 3])],
            )
        graph, constants = openvino_engine.saved(converted)
        probed_TD = OpenVinoSession(graph, constants, "fp32")(probe_THWC)
        equality = agreement(probed_TD, eager(network)(probe_THWC))
    except Exception as error:  # OpenVINO's converter raises errors of many types
        raise ConversionError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    if not equality >= LEAST_EQUALITY:
        raise ConversionError(
            f"its features differ from torch's: mean cosine {equality:.5f}, must be at least {LEAST_EQUALITY}"
        )
    return OpenVinoModel(graph=graph, weights=constants, probe_THWC=probe_THWC, probed_TD=probed_TD)


def unpacked(quantized: Int8Weights, side: int) -> OpenVinoModel:
    """Return the OpenVINO model that 8-bit weights contain, for frames of `side` × `side` pixels."""
    return OpenVinoModel(
        graph=quantized.graph,
        weights=quantized.constants,
        probe_THWC=reference_photos(side),
        probed_TD=quantized.probed_TD,
        is_quantized=True,
    )


class _WithNormalisation(nn.Module):
    """Torch module for conversion: a backbone that also normalises its frames.

    Frames [T, H, W, 3] uint8 in, features [T, D] float32 out.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_THWC: Tensor) -> Tensor:
        features_TD: Tensor = self.network.embed(frames_THWC)
        return features_TD
