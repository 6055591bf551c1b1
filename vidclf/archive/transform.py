"""The spatial transform of a frame: short side to `resize_size`, then a central square crop.

It runs in the decode worker, so that 8-bit frames at model resolution are all that travels;
normalisation to floats happens beside the CNN, on its device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """What the backbone's weights were trained to see."""

    resize_size: int
    """short side after scaling, in pixels"""
    crop_size: int
    """side of the central square, in pixels"""
    interpolation: str
    """`bilinear` or `bicubic`, antialiased"""

    def __call__(self, frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Scale and crop one RGB frame [H, W, 3] to [crop_size, crop_size, 3] uint8."""
        # The permuted view of a packed frame is what torchvision calls channels_last: its uint8
        # kernels are fastest there and equal PIL to one grey level.
        image_CHW = torch.from_numpy(frame_HWC).permute(2, 0, 1)
        mode = InterpolationMode(self.interpolation)
        resized_CHW = functional.resize(image_CHW, [self.resize_size], interpolation=mode, antialias=True)
        cropped_CHW = functional.center_crop(resized_CHW, [self.crop_size, self.crop_size])
        return np.ascontiguousarray(cropped_CHW.permute(1, 2, 0).numpy())
