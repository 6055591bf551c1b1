"""Choice of the frames of a video with most attention, and their thumbnails as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

NUM_FRAMES = 6
"""Largest number of thumbnails per video."""

BOX = 224
"""Side of the square that a thumbnail fits into, in pixels."""

JPEG_QUALITY = 78
"""Quality of the thumbnails, from 0 to 100."""


def most_attended(attention: Sequence[float], count: int = NUM_FRAMES) -> list[int]:
    """Indices of the `count` frames with the largest attention weights, in rising order.

    Of equal weights the earlier wins. Neighbouring frames look alike. With N frames, a frame at most N / (4 · `count`)
    places from one with a larger weight is therefore skipped. Skipped frames fill up the list if it would have fewer
    than `count` entries.
    """
    gap = len(attention) // (4 * count)
    ranked = [int(index) for index in np.argsort(-np.asarray(attention), kind="stable")]
    indices: list[int] = []
    for index in ranked:
        if all(abs(index - other) > gap for other in indices):
            indices.append(index)
    indices += [index for index in ranked if index not in indices]
    return sorted(indices[:count])


def data_uri(frame_HWC: npt.NDArray[np.uint8]) -> str:
    """Data URI with an RGB frame [H, W, 3] as a JPEG inside."""
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
