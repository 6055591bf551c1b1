"""List of the backbones, with the feature dimension and the preprocessing of each.

Free of torch, because code that only reads or writes features needs to know no more of a backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidclf.video.frame_transform import FrameTransform

FEATURE_DIMS = {
    "resnet50": 2048,
    "resnet101": 2048,
    "efficientnet_v2_s": 1280,
    "efficientnet_v2_m": 1280,
    "efficientnet_lite0": 1280,
}
"""Backbones by name, each with the dimension D of its features."""

LITE0 = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing that a backbone's weights expect: the spatial transform, then (x / 255 - mean) / std."""

    transform: FrameTransform
    mean: tuple[float, float, float]
    """mean of each channel (red, green, blue), on a scale of 0 to 1"""
    std: tuple[float, float, float]
    """standard deviation of each channel, on the same scale"""


def preprocessing(name: str, weights: str) -> Preprocessing:
    """The preprocessing with which the weights were trained. Files and random weights have that of DEFAULT.

    `name` must be in `FEATURE_DIMS`; `weights` is a value of `--weights`.
    """
    if name == LITE0:
        side, mean, std = 224, 127 / 255, 128 / 255
        transform = FrameTransform(resize_size=side, crop_size=side, interpolation="bicubic")
        return Preprocessing(transform=transform, mean=(mean,) * 3, std=(std,) * 3)
    enum = torchvision_models().get_model_weights(name)
    preset = (enum[weights] if weights in enum.__members__ else enum["DEFAULT"]).transforms()
    transform = FrameTransform(
        resize_size=preset.resize_size[0], crop_size=preset.crop_size[0], interpolation=preset.interpolation.value
    )
    return Preprocessing(transform=transform, mean=tuple(preset.mean), std=tuple(preset.std))


def torchvision_models() -> Any:
    """The module `torchvision.models`, imported on first use: it costs 1.5 s, and EfficientNet-Lite0 works without."""
    import torchvision.models

    return torchvision.models
