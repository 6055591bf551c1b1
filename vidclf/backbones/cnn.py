"""The backbone as a torch module: a pretrained image network without its classification layer.

Shape suffixes: T frames, H W pixels, C channels, D features.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.catalog import torchvision_models

FRAMES_PER_FORWARD = 16
"""Number of frames computed at once. Larger batches are slower on a CPU, because their activations do not fit its
cache."""


class Backbone(nn.Module):
    """An image network without its classification layer.

    Frames [T, H, W, 3] uint8 in, pooled features [T, D] float32 out.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: BackboneModel) -> None:
        super().__init__()
        self.trunk = _architecture(model)
        self.model = model
        self.dtype = torch.float32
        # The normalisation as one scale and one shift of pixel values from 0 to 255.
        mean = torch.tensor(model.preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(model.preprocessing.std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    @torch.inference_mode()
    def forward(self, frames_THWC: Tensor) -> Tensor:
        """Compute the features [T, D] float32 of frames [T, H, W, 3] uint8 on this module's device.

        The result is on the CPU. Frames are computed `FRAMES_PER_FORWARD` at a time.
        """
        chunks = torch.split(frames_THWC, FRAMES_PER_FORWARD)
        features = [self.embed(chunk.to(self.scale.device, non_blocking=True)) for chunk in chunks]
        return torch.cat(features).float().cpu()

    def embed(self, frames_THWC: Tensor) -> Tensor:
        """Compute the features [T, D] of frames that are already on this module's device, all at once."""
        # The permuted view of packed frames is channels_last already, and the product keeps this memory format.
        x = frames_THWC.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        return cast(Tensor, self.trunk(x.to(self.dtype)))


class _LiteTrunk(nn.Module):
    """An EfficientNet-Lite as a feature extractor: average pooling takes the place of its classification layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name(name.replace("_", "-"))
        self.network._fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.extract_features(x).mean((2, 3)))


def _architecture(model: BackboneModel) -> nn.Module:
    """Return the untrained network of `model`, with its classification layer replaced by the identity."""
    if model.library == "efficientnet_lite":
        return _LiteTrunk(model.architecture)
    if model.library == "timm":
        from vidclf.backbones import timm_models

        return timm_models.build(model.architecture, model.arguments)
    if model.library == "open_clip":
        from vidclf.backbones import open_clip_models

        return open_clip_models.build(model.arguments)
    network: nn.Module = torchvision_models().get_model(model.architecture, weights=None)
    if hasattr(network, "fc"):
        network.fc = nn.Identity()
    else:
        network.classifier = nn.Identity()
    return network


def build(model: BackboneModel, state: dict[str, npt.NDArray[np.generic]], device: str) -> Backbone:
    """Return the backbone on `device`, ready for inference, with the weights `state` from `read_weights`."""
    backbone = Backbone(model)
    # torch.tensor copies. as_tensor would share the object store's read-only arrays, with a warning.
    backbone.trunk.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    return backbone.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def seeded_architecture(model: BackboneModel) -> nn.Module:
    """Return the network of `model` with random weights from seed 0, which are the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _architecture(model)
