"""The torch module of a backbone: a pretrained CNN without its classification layer."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidclf.backbones.catalog import LITE0, Preprocessing, preprocessing, torchvision_models

FRAMES_PER_FORWARD = 16
"""Larger batches are slower on a CPU: their activations leave the cache."""


class Backbone(nn.Module):
    """A headless CNN: frames [T, H, W, 3] uint8 in, pooled features [T, D] float32 out."""

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.trunk = _architecture(name)
        self.preprocessing = preprocessing
        self.dtype = torch.float32
        # Folded into one scale and one shift, on 0 to 255.
        mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    @torch.inference_mode()
    def forward(self, frames_THWC: Tensor) -> Tensor:
        """Features [T, D] float32 on the CPU, computed on this module's device."""
        chunks = torch.split(frames_THWC, FRAMES_PER_FORWARD)
        features = [self.embed(chunk.to(self.scale.device, non_blocking=True)) for chunk in chunks]
        return torch.cat(features).float().cpu()

    def embed(self, frames_THWC: Tensor) -> Tensor:
        """Features [T, D] of frames on this module's device, all at once."""
        # The permuted view of packed frames is channels_last already; the product keeps it.
        x = frames_THWC.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        return cast(Tensor, self.trunk(x.to(self.dtype)))


class _Lite0Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network._fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.extract_features(x).mean((2, 3)))


def _architecture(name: str) -> nn.Module:
    if name == LITE0:
        return _Lite0Trunk()
    network: nn.Module = torchvision_models().get_model(name, weights=None)
    if hasattr(network, "fc"):
        network.fc = nn.Identity()
    else:
        network.classifier = nn.Identity()
    return network


def build(name: str, weights: str, state: dict[str, npt.NDArray[np.generic]], device: str) -> Backbone:
    """A backbone in evaluation mode on `device`, with the state that `load_weights` gave."""
    backbone = Backbone(name, preprocessing(name, weights))
    # as_tensor would warn that the arrays from the object store are read-only, and share them.
    backbone.trunk.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    return backbone.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def seeded_architecture(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _architecture(name)
