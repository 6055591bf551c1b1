"""The spatial transform of a frame: short side to `resize_size`, then a central square crop.

It runs in the decode worker, so that 8-bit frames at model resolution are all that travels;
normalisation to floats happens beside the CNN, on its device. Same kernels and same arithmetic as
torchvision's v2 `resize` and `center_crop` (a test compares them), without importing torchvision,
which would cost every decode worker 1.5 s and 170 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
        # Here, so that a decode worker, which only hands this object on to its child process, stays
        # without torch's 600 MB.
        import torch
        from torch.nn.functional import interpolate

        # The permuted view of a packed frame is what torch calls channels_last: its antialiased uint8
        # kernels are fastest there and equal PIL to one grey level.
        image_NCHW = torch.from_numpy(frame_HWC).permute(2, 0, 1).unsqueeze(0)
        height, width, _ = frame_HWC.shape
        short = min(height, width)
        size = [int(self.resize_size * height / short), int(self.resize_size * width / short)]
        if size != [height, width]:
            image_NCHW = interpolate(image_NCHW, size, mode=self.interpolation, antialias=True, align_corners=False)
        top = round((size[0] - self.crop_size) / 2)
        left = round((size[1] - self.crop_size) / 2)
        cropped = image_NCHW[0, :, top : top + self.crop_size, left : left + self.crop_size]
        return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())
