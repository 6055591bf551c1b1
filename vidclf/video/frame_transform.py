"""Spatial transform of a frame: scale the short side to `resize_size`, then crop the central square.

The transform runs in the decode worker, so that only 8-bit frames at model resolution are passed on.
They are normalised to floats on the CNN's device. Kernels and arithmetic are those of torchvision's
v2 `resize` and `center_crop` (a test compares them). torchvision itself is not imported, because it
would cost every decode worker 1.5 s and 170 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Transform = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
"""Function of an RGB frame [H, W, 3] uint8 that returns the array to keep of it.

All frames of a video must be mapped to one shape. The result must be a new array, because the memory of the
frame is reused for the next frame."""


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """Scaling and cropping that the weights of a backbone were trained with."""

    resize_size: int
    """short side after scaling, in pixels"""
    crop_size: int
    """side of the central square, in pixels"""
    interpolation: str
    """`bilinear` or `bicubic`, antialiased"""

    def __call__(self, frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Scale and crop one RGB frame [H, W, 3] to [crop_size, crop_size, 3] uint8."""
        # Imported here, because a decode worker only passes this object on to its child process and must not
        # load torch (600 MB).
        import torch

        # The permuted view of a packed frame has torch's channels_last layout. Its antialiased uint8 kernels
        # are fastest for this layout and equal PIL to one grey level. The batch axis must be added before the
        # permutation: added afterwards, its stride hides the layout, which costs three times as much.
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
        """Size of one transformed frame."""
        return self.crop_size**2 * 3


@dataclass(frozen=True)
class FrameTransforms:
    """Transforms of several CNNs, applied to the same frame, so that a video is decoded only once."""

    transforms: tuple[FrameTransform, ...]

    def __call__(self, frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the results of all transforms of a frame, flattened and concatenated: [frame_bytes] uint8."""
        return np.concatenate([transform(frame_HWC).reshape(-1) for transform in self.transforms])

    @property
    def frame_bytes(self) -> int:
        """Size of one frame after all transforms."""
        return sum(transform.frame_bytes for transform in self.transforms)

    def views(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """Split results of `__call__`, [T, frame_bytes], into one array [T, crop_size, crop_size, 3] per transform."""
        bounds = np.cumsum([transform.frame_bytes for transform in self.transforms])[:-1]
        return [
            np.ascontiguousarray(part).reshape(-1, transform.crop_size, transform.crop_size, 3)
            for part, transform in zip(np.split(frames, bounds, axis=1), self.transforms, strict=True)
        ]

    def warm_up(self) -> None:
        """Load torch, which takes seconds, before the first frame arrives."""
        self(np.zeros((8, 8, 3), np.uint8))


def _resized(image_NCHW: torch.Tensor, size: list[int], corner: list[int], mode: str) -> torch.Tensor:
    """Scale an image to `size` (height, width), computing only the part above and left of `corner`.

    That is a quarter less work for a 16:9 frame.
    """
    import torch
    from torch.nn.functional import interpolate

    height, width = image_NCHW.shape[2:]
    # The operator does not scale a direction in which input and output have the same size, whatever scale is
    # given. So neither coordinate of the corner may equal the input's size.
    if corner[0] == height or corner[1] == width:
        return interpolate(image_NCHW, size, mode=mode, antialias=True, align_corners=False)
    # The operator behind `interpolate`, which cannot pass on a scale together with a size.
    resize = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa")
    scaled: torch.Tensor = resize(image_NCHW, corner, False, size[0] / height, size[1] / width)
    return scaled
