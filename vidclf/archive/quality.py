"""Per-frame quality of decoded frames, measured at model resolution so that videos compare."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

BLACK_LUMA = 25.0
"""A frame whose mean luma (0 to 255) is below this is black."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """One entry per frame. Units: grey levels, squared grey levels, flag."""

    luma_mean: npt.NDArray[np.float32]
    sharpness: npt.NDArray[np.float32]
    """variance of the Laplacian (Pech-Pacheco et al., ICPR 2000): low is blurry"""
    is_black: npt.NDArray[np.bool_]


def measure(frames_THWC: npt.NDArray[np.uint8]) -> FrameQuality:
    """Quality of RGB frames [T, H, W, 3] uint8."""
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    luma_mean = np.array([luma.mean() for luma in lumas], dtype=np.float32)
    sharpness = np.array([cv2.Laplacian(luma, cv2.CV_32F).var() for luma in lumas], dtype=np.float32)
    return FrameQuality(luma_mean=luma_mean, sharpness=sharpness, is_black=luma_mean < BLACK_LUMA)
