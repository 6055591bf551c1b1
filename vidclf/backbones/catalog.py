"""The backbones there are, and what the weights of each expect of a frame.

Without torch: what reads and writes features needs to know no more of a backbone than this.
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

LITE0 = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a backbone's weights expect: the spatial transform, then (x / 255 - mean) / std."""

    transform: FrameTransform
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def preprocessing(name: str, weights: str) -> Preprocessing:
    """What the weights were trained with; for a file or random weights, what DEFAULT's were."""
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
    """Imported on first use: EfficientNet-Lite0 does without, and it costs a process 1.5 s."""
    import torchvision.models

    return torchvision.models
