"""Frames as small embedded images, chosen by attention."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

NUM_FRAMES = 6
"""Frames of a strip, at most."""

BOX = 224
"""Side of the square, in pixels, that a frame is shrunk into."""

JPEG_QUALITY = 78


def most_attended(attention: Sequence[float], count: int = NUM_FRAMES) -> list[int]:
    """Indices of the `count` largest weights, in order of time; of equals the earlier.

    Neighbours show the same, so that one within a quarter of an even spacing of a larger weight gives way
    to the next; they come back where there would be fewer than `count` without.
    """
    gap = len(attention) // (4 * count)
    ranked = [int(index) for index in np.argsort(-np.asarray(attention), kind="stable")]
    chosen: list[int] = []
    for index in ranked:
        if all(abs(index - other) > gap for other in chosen):
            chosen.append(index)
    chosen += [index for index in ranked if index not in chosen]
    return sorted(chosen[:count])


def data_uri(frame_HWC: npt.NDArray[np.uint8]) -> str:
    """An RGB frame as a JPEG in a data URI."""
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
