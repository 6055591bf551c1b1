"""The spatial transform of a frame: short side to `resize_size`, then a central square crop.

It runs in the decode worker, so that 8-bit frames at model resolution are all that travels;
normalisation to floats happens beside the CNN, on its device. Same kernels and same arithmetic as
torchvision's v2 `resize` and `center_crop` (a test compares them), without importing torchvision,
which would cost every decode worker 1.5 s and 170 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


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

        # The permuted view of a packed frame is what torch calls channels_last: its antialiased uint8
        # kernels are fastest there and equal PIL to one grey level. The batch axis must come first:
        # added after the permutation its stride hides the layout, which costs three times as much.
        image_NCHW = torch.from_numpy(frame_HWC).unsqueeze(0).permute(0, 3, 1, 2)
        height, width, _ = frame_HWC.shape
        short = min(height, width)
        size = [int(self.resize_size * height / short), int(self.resize_size * width / short)]
        top = round((size[0] - self.crop_size) / 2)
        left = round((size[1] - self.crop_size) / 2)
        if size != [height, width]:
            image_NCHW = _resized(image_NCHW, size, [top + self.crop_size, left + self.crop_size], self.interpolation)
        cropped = image_NCHW[0, :, top : top + self.crop_size, left : left + self.crop_size]
        return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())

    @property
    def frame_bytes(self) -> int:
        return self.crop_size**2 * 3


@dataclass(frozen=True)
class FrameTransforms:
    """Several CNNs' transforms of the same frame, so that a video is decoded once for all of them."""

    transforms: tuple[FrameTransform, ...]

    def __call__(self, frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The transformed frames one behind the other, [frame_bytes] uint8."""
        return np.concatenate([transform(frame_HWC).reshape(-1) for transform in self.transforms])

    @property
    def frame_bytes(self) -> int:
        return sum(transform.frame_bytes for transform in self.transforms)

    def views(self, kept: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """Frames as `__call__` left them, [T, frame_bytes], as [T, side, side, 3] of each transform."""
        bounds = np.cumsum([transform.frame_bytes for transform in self.transforms])[:-1]
        return [
            np.ascontiguousarray(part).reshape(-1, transform.crop_size, transform.crop_size, 3)
            for part, transform in zip(np.split(kept, bounds, axis=1), self.transforms, strict=True)
        ]

    def warm_up(self) -> None:
        """Load torch, which takes seconds, before the first frame is waited for."""
        self(np.zeros((8, 8, 3), np.uint8))


def _resized(image_NCHW: torch.Tensor, size: list[int], corner: list[int], mode: str) -> torch.Tensor:
    """`image_NCHW` scaled to `size`, of which only what is above and left of `corner` is computed:
    a quarter less work for a 16:9 frame."""
    import torch
    from torch.nn.functional import interpolate

    height, width = image_NCHW.shape[2:]
    # The operator leaves out a direction in which the sizes of input and output agree, whatever its
    # scale is, so the corner must not happen to lie there.
    if corner[0] == height or corner[1] == width:
        return interpolate(image_NCHW, size, mode=mode, antialias=True, align_corners=False)
    # What `interpolate` calls; it does not pass on a scale together with a size.
    resize = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa")
    scaled: torch.Tensor = resize(image_NCHW, corner, False, size[0] / height, size[1] / width)
    return scaled
