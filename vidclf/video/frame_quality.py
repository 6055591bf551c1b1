"""Brightness, sharpness and repetition of decoded frames, and sharpening of blurry ones.

Quality is measured at model resolution, so that videos of different sizes are comparable. Only
`is_black` is applied before the transform: the choice of a replacement frame must not depend on the
CNN that the frames are for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

BLACK_LUMA = 25.0
"""Mean luma (0 to 255) below which a frame is black."""

BLACK_ROWS = 100
"""Approximate number of rows from which `is_black` takes the mean, with columns equally far apart.

More pixels would not change a mean."""

DUPLICATE_DIFFERENCE = 1.0
"""Difference from the previous sampled frame below which a frame is a near duplicate.

The difference is the mean absolute difference of luma, in grey levels. Re-encoding alone stays below it."""

BLURRY_SHARPNESS = 100.0
"""Mean sharpness below which a video is blurry."""

SHARPENING_SIGMA = 2.0
"""Standard deviation of the Gaussian that sharpening takes for the blur, in pixels at model resolution."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """Quality measures of the T frames of one video; each array has shape [T]."""

    luma_mean: npt.NDArray[np.float32]
    """in grey levels, 0 to 255"""
    sharpness: npt.NDArray[np.float32]
    """variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), in squared grey levels; low values are blurry"""
    is_near_duplicate: npt.NDArray[np.bool_]
    """whether the frame is a near duplicate of the previous one; false for the first frame"""

    def is_blurry(self, is_black: npt.NDArray[np.bool_]) -> bool:
        """Return whether the video is blurry, by the mean sharpness of its frames.

        Black frames have no edges and are left out, unless all frames are black. `is_black` has shape [T].
        """
        sharpness = self.sharpness if is_black.all() else self.sharpness[~is_black]
        return bool(sharpness.mean() < BLURRY_SHARPNESS)


def is_black(frame_HWC: npt.NDArray[np.uint8]) -> bool:
    """Return whether an RGB frame of any size is black, from about 100 of its rows."""
    step = max(1, frame_HWC.shape[0] // BLACK_ROWS)
    sampled_pixels = np.ascontiguousarray(frame_HWC[::step, ::step])
    return bool(cv2.cvtColor(sampled_pixels, cv2.COLOR_RGB2GRAY).mean() < BLACK_LUMA)


def sharpened(frames_THWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return RGB frames [T, H, W, 3] uint8 with doubled fine detail: unsharp masking with a Gaussian of 2 pixels."""
    return np.stack(
        [
            cv2.addWeighted(frame, 2.0, cv2.GaussianBlur(frame, (0, 0), SHARPENING_SIGMA), -1.0, 0.0)
            for frame in frames_THWC
        ]
    )


def measure(frames_THWC: npt.NDArray[np.uint8]) -> FrameQuality:
    """Measure the quality of RGB frames [T, H, W, 3] uint8; T is at least 1."""
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    luma_mean = np.array([cv2.mean(luma)[0] for luma in lumas], dtype=np.float32)
    differences = [cv2.norm(before, luma, cv2.NORM_L1) / luma.size for before, luma in itertools.pairwise(lumas)]
    sharpness = np.array([cv2.Laplacian(luma, cv2.CV_32F).var() for luma in lumas], dtype=np.float32)
    return FrameQuality(
        luma_mean=luma_mean,
        sharpness=sharpness,
        is_near_duplicate=np.array([False, *(difference < DUPLICATE_DIFFERENCE for difference in differences)]),
    )
