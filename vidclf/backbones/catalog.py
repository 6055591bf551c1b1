"""Catalog of the backbones (pretrained CNNs) with short names: length of the feature vectors, and preprocessing.

`resolve` also takes names of other libraries. This module does not load torch, because code that only reads or writes
features needs to know no more of a backbone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from vidclf.json_text import json_text
from vidclf.video.frame_transform import FrameTransform

FEATURE_DIMS = {
    "resnet50": 2048,
    "resnet101": 2048,
    "efficientnet_v2_s": 1280,
    "efficientnet_v2_m": 1280,
    "efficientnet_lite0": 1280,
    "efficientnet_lite1": 1280,
    "efficientnet_lite2": 1280,
}
"""Names of the backbones, each with the number D of features that it computes per frame."""

LITE0 = "efficientnet_lite0"

LITE = {LITE0: 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""Names of the backbones whose weights come in Python packages, each with the side of its frames in pixels."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of frames that a backbone's weights expect: scaling and cropping, then (x / 255 - mean) / std."""

    transform: FrameTransform
    mean: tuple[float, float, float]
    """mean of each colour channel (red, green, blue), on a scale of 0 to 1"""
    std: tuple[float, float, float]
    """standard deviation of each colour channel (red, green, blue), on a scale of 0 to 1"""

    def as_json(self) -> dict[str, Any]:
        """Return the preprocessing as plain JSON values, as feature specs store it.

        Settings of the transform that have their default value are left out, so that keys of older features stay valid.
        """
        defaults = {item.name: item.default for item in fields(FrameTransform)}
        transform = {name: value for name, value in asdict(self.transform).items() if value != defaults[name]}
        values: dict[str, Any] = json.loads(json_text({**asdict(self), "transform": transform}))
        return values


def preprocessing(name: str, weights: str) -> Preprocessing:
    """Return the preprocessing with which the weights of the backbone `name` were trained.

    `name` must be in `FEATURE_DIMS`; `weights` is a value of `--weights`. For files and random weights, the
    preprocessing is that of `DEFAULT`.
    """
    if name in LITE:
        side, mean, std = LITE[name], 127 / 255, 128 / 255
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

    The import costs 1.5 s, and EfficientNet-Lite works without it.
    """
    import torchvision.models

    return torchvision.models
