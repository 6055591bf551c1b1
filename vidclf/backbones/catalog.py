"""List of the backbones (pretrained CNNs), with the length of the feature vectors and the preprocessing of each.

This module does not load torch, because code that only reads or writes features needs to know no more of a backbone.
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
"""Names of the backbones, each with the number D of features that it computes per frame."""

LITE0 = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of frames that a backbone's weights expect: scaling and cropping, then (x / 255 - mean) / std."""

    transform: FrameTransform
    mean: tuple[float, float, float]
    """mean of each colour channel (red, green, blue), on a scale of 0 to 1"""
    std: tuple[float, float, float]
    """standard deviation of each colour channel (red, green, blue), on a scale of 0 to 1"""


def preprocessing(name: str, weights: str) -> Preprocessing:
    """Return the preprocessing with which the weights of the backbone `name` were trained.

    `name` must be in `FEATURE_DIMS`; `weights` is a value of `--weights`. For files and random weights, the
    preprocessing is that of `DEFAULT`.
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
    """Return the module `torchvision.models`, imported on first use.

    The import costs 1.5 s, and EfficientNet-Lite0 works without it.
    """
    import torchvision.models

    return torchvision.models
