"""Per-frame quality of decoded frames, measured at model resolution so that videos compare.

Only whether a frame is black is judged before the transform: what is sampled in its place must not
depend on which CNN the frames are for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

BLACK_LUMA = 25.0
"""A frame whose mean luma (0 to 255) is below this is black."""

BLACK_ROWS = 100
"""Rows of a frame that are looked at for that, and as dense columns: a mean needs no more."""

DUPLICATE_DIFFERENCE = 1.0
"""A frame whose luma differs from the frame sampled before by less than this, in grey levels averaged
over the picture, shows the same: what re-encoding alone changes stays below it."""

BLURRY_SHARPNESS = 100.0
"""A video whose mean sharpness is below this is blurry."""

SHARPENING_SIGMA = 2.0
"""Standard deviation, in pixels at model resolution, of what sharpening takes for blur."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """One entry per frame. Units: grey levels, squared grey levels, flag."""

    luma_mean: npt.NDArray[np.float32]
    sharpness: npt.NDArray[np.float32]
    """variance of the Laplacian (Pech-Pacheco et al., ICPR 2000): low is blurry"""
    is_near_duplicate: npt.NDArray[np.bool_]
    """of the frame before; never the first"""

    def is_blurry(self, is_black: npt.NDArray[np.bool_]) -> bool:
        """Whether the video is. Black frames, which have no edges to be sharp, are left out unless
        there are no others."""
        seen = self.sharpness if is_black.all() else self.sharpness[~is_black]
        return bool(seen.mean() < BLURRY_SHARPNESS)


def is_black(frame_HWC: npt.NDArray[np.uint8]) -> bool:
    """Whether an RGB frame of any size is black, judged by some 100 rows of it."""
    step = max(1, frame_HWC.shape[0] // BLACK_ROWS)
    seen = np.ascontiguousarray(frame_HWC[::step, ::step])
    return bool(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY).mean() < BLACK_LUMA)


def sharpened(frames_THWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frames [T, H, W, 3] uint8 with their fine detail doubled: unsharp masking, Gaussian of 2 pixels."""
    return np.stack(
        [
            cv2.addWeighted(frame, 2.0, cv2.GaussianBlur(frame, (0, 0), SHARPENING_SIGMA), -1.0, 0.0)
            for frame in frames_THWC
        ]
    )


def measure(frames_THWC: npt.NDArray[np.uint8]) -> FrameQuality:
    """Quality of RGB frames [T, H, W, 3] uint8, T at least 1."""
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    luma_mean = np.array([cv2.mean(luma)[0] for luma in lumas], dtype=np.float32)
    differences = [cv2.norm(before, luma, cv2.NORM_L1) / luma.size for before, luma in itertools.pairwise(lumas)]
    sharpness = np.array([cv2.Laplacian(luma, cv2.CV_32F).var() for luma in lumas], dtype=np.float32)
    return FrameQuality(
        luma_mean=luma_mean,
        sharpness=sharpness,
        is_near_duplicate=np.array([False, *(difference < DUPLICATE_DIFFERENCE for difference in differences)]),
    )
