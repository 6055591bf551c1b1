"""Per-frame quality of decoded frames, measured at model resolution so that videos compare."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

BLACK_LUMA = 25.0
"""A frame whose mean luma (0 to 255) is below this is black."""

DUPLICATE_DIFFERENCE = 1.0
"""A frame whose luma differs from the frame sampled before by less than this, in grey levels averaged
over the picture, shows the same: what re-encoding alone changes stays below it."""

BLURRY_SHARPNESS = 100.0
"""A video whose mean sharpness is below this is blurry."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """One entry per frame. Units: grey levels, squared grey levels, flag."""

    luma_mean: npt.NDArray[np.float32]
    sharpness: npt.NDArray[np.float32]
    """variance of the Laplacian (Pech-Pacheco et al., ICPR 2000): low is blurry"""
    is_black: npt.NDArray[np.bool_]
    is_near_duplicate: npt.NDArray[np.bool_]
    """of the frame before; never the first"""

    @property
    def all_black(self) -> bool:
        return bool(self.is_black.all())

    @property
    def is_blurry(self) -> bool:
        """Black frames, which have no edges to be sharp, are left out unless there are no others."""
        seen = self.sharpness if self.all_black else self.sharpness[~self.is_black]
        return bool(seen.mean() < BLURRY_SHARPNESS)


def is_black(frame_HWC: npt.NDArray[np.uint8]) -> bool:
    """Whether an RGB frame is black, as `measure` sees it."""
    return bool(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY).mean() < BLACK_LUMA)


def measure(frames_THWC: npt.NDArray[np.uint8]) -> FrameQuality:
    """Quality of RGB frames [T, H, W, 3] uint8, T at least 1."""
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    luma_mean = np.array([luma.mean() for luma in lumas], dtype=np.float32)
    differences = [cv2.absdiff(before, luma).mean() for before, luma in itertools.pairwise(lumas)]
    sharpness = np.array([cv2.Laplacian(luma, cv2.CV_32F).var() for luma in lumas], dtype=np.float32)
    return FrameQuality(
        luma_mean=luma_mean,
        sharpness=sharpness,
        is_black=luma_mean < BLACK_LUMA,
        is_near_duplicate=np.array([False, *(difference < DUPLICATE_DIFFERENCE for difference in differences)]),
    )
