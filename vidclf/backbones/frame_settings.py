"""Preprocessing of frames as the configuration of a checkpoint states it, in the terms of timm and of open_clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vidclf.backbones.catalog import Preprocessing
from vidclf.errors import ConfigError
from vidclf.video.frame_transform import FrameTransform

INTERPOLATIONS = ("bilinear", "bicubic")
"""Methods of scaling that `FrameTransform` has."""

TIMM_DEFAULTS = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
"""Values of timm (`timm.data.resolve_data_config`) for entries that a configuration leaves out."""

OPEN_CLIP_MODES = {"shortest": "center", "longest": "border", "squash": "squash"}
"""Values of `crop_mode` by open_clip's `resize_mode`."""


def preprocessing_of_timm(name: str, published: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing in timm's `pretrained_cfg`. Missing entries have timm's default values.

    Raises ConfigError, naming the backbone `name`, for a preprocessing that `FrameTransform` does not have.
    """
    stated = {**TIMM_DEFAULTS, **{key: published[key] for key in TIMM_DEFAULTS if published.get(key)}}
    side = _side(name, stated["input_size"])
    check_interpolation(name, stated["interpolation"])
    # Like timm, which takes every other mode for `center`.
    mode = stated["crop_mode"] if stated["crop_mode"] in ("squash", "border") else "center"
    mean, std = tuple(stated["mean"]), tuple(stated["std"])
    red, green, blue = (round(255 * value) for value in mean)
    transform = FrameTransform(
        resize_size=math.floor(side / stated["crop_pct"]),
        crop_size=side,
        interpolation=stated["interpolation"],
        crop_mode=mode,
        fill=(red, green, blue) if mode == "border" else (0, 0, 0),
    )
    return Preprocessing(transform=transform, mean=mean, std=std)


def preprocessing_of_open_clip(name: str, stated: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing in open_clip's `PreprocessCfg`, given as a dictionary without missing entries.

    Raises ConfigError, naming the backbone `name`, for a preprocessing that `FrameTransform` does not have.
    """
    size = stated["size"]
    side = _side(name, (3, size, size) if isinstance(size, int) else (3, *size))
    check_interpolation(name, stated["interpolation"])
    fill = stated["fill_color"]
    transform = FrameTransform(
        resize_size=side,
        crop_size=side,
        interpolation=stated["interpolation"],
        crop_mode=OPEN_CLIP_MODES[stated["resize_mode"]],
        fill=(fill,) * 3 if isinstance(fill, int) else tuple(fill),
    )
    return Preprocessing(transform=transform, mean=tuple(stated["mean"]), std=tuple(stated["std"]))


def check_interpolation(name: str, interpolation: str) -> None:
    """Raise ConfigError unless `FrameTransform` has this method of scaling."""
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(
            f"--backbone {name}: its interpolation must be one of {', '.join(INTERPOLATIONS)}, is {interpolation!r}"
        )


def _side(name: str, input_size: tuple[int, int, int]) -> int:
    """Return height and width of frames of the size (channels, height, width).

    Raises ConfigError unless they are square and have 3 channels.
    """
    channels, height, width = input_size
    if channels != 3 or height != width:
        raise ConfigError(f"--backbone {name}: its frames must be square and have 3 channels, are {tuple(input_size)}")
    return int(height)
