"""Brightness, sharpness and repetition of decoded frames, and sharpening of blurry ones.

Quality is measured on frames that are scaled for the CNN, so that videos of different sizes are comparable. Only
`is_black` looks at the frame before scaling: the choice of a replacement for a black frame must not depend on the CNN
that the frames are for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

DARK_LUMA = 25
"""Brightness (luma, 0 to 255) up to which a pixel counts as dark: 0.10 of the range."""

BLACK_SHARE = 0.98
"""Share of dark pixels from which a frame counts as black. This and `DARK_LUMA` are the defaults of FFmpeg's filter
blackdetect.

The mean brightness would not do: a bright ship on a black sky has a low mean and is no black frame.
"""

GRID_ROWS = 100
"""Approximate number of rows, and of columns equally far apart, whose pixels `is_black` looks at first."""

GRID_SHARE = 0.9
"""Share of dark pixels in this grid below which `is_black` looks at no other pixel.

It is so much lower than `BLACK_SHARE` that the grid does not decide in doubtful cases.
"""

DUPLICATE_DIFFERENCE = 1.0
"""Difference from the previous sampled frame below which a frame counts as a near duplicate of it.

The difference is the mean absolute difference of brightness (luma), in grey levels. Re-encoding a video changes its
frames by less.
"""

BLURRY_SHARPNESS = 100.0
"""Mean sharpness of a video's frames below which the video counts as blurry (see `FrameQuality.sharpness`)."""

SHARPENING_SIGMA = 2.0
"""Standard deviation of the Gaussian filter with which frames are sharpened, in pixels of the scaled frame."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """Quality measures of the T sampled frames of one video; each array has shape [T]."""

    luma_mean: npt.NDArray[np.float32]
    """mean brightness of each frame, in grey levels from 0 to 255"""
    sharpness: npt.NDArray[np.float32]
    """sharpness of each frame: variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), in squared grey levels;
    low values mean blurry"""
    is_near_duplicate: npt.NDArray[np.bool_]
    """whether each frame is nearly the same as the previous sampled frame; false for the first frame"""

    def is_blurry(self, is_black: npt.NDArray[np.bool_]) -> bool:
        """Return whether the video is blurry: whether the mean sharpness of its frames is below `BLURRY_SHARPNESS`.

        `is_black`, shape [T], marks black frames. They have no edges and are left out, unless all frames are black.
        """
        sharpness = self.sharpness if is_black.all() else self.sharpness[~is_black]
        return bool(sharpness.mean() < BLURRY_SHARPNESS)


def is_black(frame_HWC: npt.NDArray[np.uint8]) -> bool:
    """Return whether an RGB frame of any size is black: whether at least `BLACK_SHARE` of its pixels are dark."""
    step = max(1, frame_HWC.shape[0] // GRID_ROWS)
    if _dark_share(np.ascontiguousarray(frame_HWC[::step, ::step])) < GRID_SHARE:
        return False
    return _dark_share(frame_HWC) >= BLACK_SHARE


def _dark_share(frame_HWC: npt.NDArray[np.uint8]) -> float:
    """Return the share of the pixels of an RGB frame that are dark."""
    luma = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    return float(np.count_nonzero(luma <= DARK_LUMA) / luma.size)


def _laplacian_variance(luma_HW: npt.NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of a grey picture.

    Its values are whole numbers within ±1020. 16 bits hold them, in a third of the time that 32-bit floats take.
    """
    deviation = cv2.meanStdDev(cv2.Laplacian(luma_HW, cv2.CV_16S))[1]
    return float(deviation[0, 0]) ** 2


def sharpened(frames_THWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a sharpened copy of RGB frames [T, H, W, 3] uint8, in which fine detail is twice as strong.

    The method is unsharp masking: a copy blurred by a Gaussian of 2 pixels is subtracted.
    """
    return np.stack(
        [
            cv2.addWeighted(frame, 2.0, cv2.GaussianBlur(frame, (0, 0), SHARPENING_SIGMA), -1.0, 0.0)
            for frame in frames_THWC
        ]
    )


def measure(frames_THWC: npt.NDArray[np.uint8]) -> FrameQuality:
    """Return brightness, sharpness and near-duplicate marks of the frames of one video.

    `frames_THWC`: RGB frames [T, H, W, 3] uint8; T is at least 1.
    """
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    luma_mean = np.array([cv2.mean(luma)[0] for luma in lumas], dtype=np.float32)
    differences = [cv2.norm(before, luma, cv2.NORM_L1) / luma.size for before, luma in itertools.pairwise(lumas)]
    sharpness = np.array([_laplacian_variance(luma) for luma in lumas], dtype=np.float32)
    return FrameQuality(
        luma_mean=luma_mean,
        sharpness=sharpness,
        is_near_duplicate=np.array([False, *(difference < DUPLICATE_DIFFERENCE for difference in differences)]),
    )
