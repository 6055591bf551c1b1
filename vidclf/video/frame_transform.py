"""Scaling and cropping of a frame for a backbone (image network): by default the short side to `resize_size`, then the
central square.

This runs where videos are decoded, so that only small 8-bit frames are passed on. They are normalised to floats on
the CNN's device. Kernels and arithmetic are those of torchvision's v2 `resize` and `center_crop` (a test compares
them). torchvision itself is not imported, because it would cost every decode worker 1.5 s and 170 MB.
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
"""Type of a function that takes an RGB frame [H, W, 3] uint8 and returns the array to keep instead of the frame.

All frames of a video must give arrays of one shape. The result must be a new array, because the memory of the frame
is reused for the next frame.
"""


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """Scaling and cropping of frames as a backbone (a pretrained CNN) saw them when its weights were trained."""

    resize_size: int
    """side of the frame after scaling, in pixels; `crop_mode` says which side"""
    crop_size: int
    """side of the central square that is cut out after scaling, in pixels"""
    interpolation: str
    """method of scaling: `bilinear` or `bicubic`, both antialiased"""
    crop_mode: str = "center"
    """`center`: the short side is scaled to `resize_size`. `squash`: both sides are, whatever their ratio. `border`:
    the long side is, and a frame smaller than the crop is padded on both sides. The names are timm's."""
    fill: tuple[int, int, int] = (0, 0, 0)
    """colour of the padding (red, green, blue) from 0 to 255"""

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
        size = self._scaled_size(height, width)
        if self.crop_mode == "border":
            image_NCHW = _padded(_interpolated(image_NCHW, size, self.interpolation), self.crop_size, self.fill)
            height, width = size = list(image_NCHW.shape[2:])
        top = round((size[0] - self.crop_size) / 2)
        left = round((size[1] - self.crop_size) / 2)
        if size != [height, width]:
            image_NCHW = _resized(image_NCHW, size, [top + self.crop_size, left + self.crop_size], self.interpolation)
        cropped = image_NCHW[0, :, top : top + self.crop_size, left : left + self.crop_size]
        return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())

    def _scaled_size(self, height: int, width: int) -> list[int]:
        """Return height and width after scaling, rounded as torchvision and timm do."""
        if self.crop_mode == "squash":
            return [self.resize_size, self.resize_size]
        if self.crop_mode == "border":
            ratio = max(height, width) / self.resize_size
            return [max(1, round(height / ratio)), max(1, round(width / ratio))]
        short = min(height, width)
        return [int(self.resize_size * height / short), int(self.resize_size * width / short)]

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one frame after scaling and cropping."""
        return self.crop_size**2 * 3


@dataclass(frozen=True)
class FrameTransforms:
    """Scalings and crops for several CNNs, all applied to the same frame, so that a video is decoded only once."""

    transforms: tuple[FrameTransform, ...]

    def __call__(self, frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Scale and crop one RGB frame for each CNN.

        Returns the results flattened and joined into one array [frame_bytes] uint8.
        """
        return np.concatenate([transform(frame_HWC).reshape(-1) for transform in self.transforms])

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one frame's results for all CNNs together."""
        return sum(transform.frame_bytes for transform in self.transforms)

    def views(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """Split the joined frames of a video, [T, frame_bytes], into one array [T, crop_size, crop_size, 3] per CNN.

        `frames` holds one result of `__call__` per frame.
        """
        bounds = np.cumsum([transform.frame_bytes for transform in self.transforms])[:-1]
        return [
            np.ascontiguousarray(part).reshape(-1, transform.crop_size, transform.crop_size, 3)
            for part, transform in zip(np.split(frames, bounds, axis=1), self.transforms, strict=True)
        ]

    def warm_up(self) -> None:
        """Load torch, which takes seconds, before the first frame arrives."""
        self(np.zeros((8, 8, 3), np.uint8))


def _interpolated(image_NCHW: torch.Tensor, size: list[int], mode: str) -> torch.Tensor:
    """Scale an image to `size` (height, width), antialiased; an image of that size is returned as it is."""
    from torch.nn.functional import interpolate

    if size == list(image_NCHW.shape[2:]):
        return image_NCHW
    return interpolate(image_NCHW, size, mode=mode, antialias=True, align_corners=False)


def _padded(image_NCHW: torch.Tensor, side: int, fill: tuple[int, int, int]) -> torch.Tensor:
    """Pad an image on both sides with the colour `fill`, so that neither its height nor its width is below `side`."""
    import torch

    height, width = image_NCHW.shape[2:]
    if min(height, width) >= side:
        return image_NCHW
    padded_NCHW = torch.tensor(fill, dtype=image_NCHW.dtype).view(1, 3, 1, 1)
    padded_NCHW = padded_NCHW.repeat(1, 1, max(height, side), max(width, side))
    top, left = max(side - height, 0) // 2, max(side - width, 0) // 2
    padded_NCHW[:, :, top : top + height, left : left + width] = image_NCHW
    return padded_NCHW


def _resized(image_NCHW: torch.Tensor, size: list[int], corner: list[int], mode: str) -> torch.Tensor:
    """Scale an image to `size` (height, width), but compute only the part above and left of `corner` (y, x).

    For a crop from a 16:9 frame, that is a quarter less work.
    """
    import torch

    height, width = image_NCHW.shape[2:]
    # The operator does not scale a direction in which input and output have the same size, whatever scale is
    # given. So neither coordinate of the corner may equal the input's size.
    if corner[0] == height or corner[1] == width:
        return _interpolated(image_NCHW, size, mode)
    # The operator behind `interpolate`, which cannot pass on a scale together with a size.
    resize = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa")
    scaled: torch.Tensor = resize(image_NCHW, corner, False, size[0] / height, size[1] / width)
    return scaled
