"""Rotation and reflection of a picture by the display matrix of its video file.

A display matrix maps the pixel (x, y) of the decoded picture to (a·x + c·y, b·x + d·y) on the screen (ISO/IEC 14496-12,
track header). Phones write it instead of rotating the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to turn and reflect a rectangular picture: a transposition, followed by two reflections."""

    is_transposed: bool = False
    """whether rows become columns"""
    is_flipped_vertically: bool = False
    """whether the upper and the lower edge are then exchanged"""
    is_flipped_horizontally: bool = False
    """whether the left and the right edge are then exchanged"""

    @classmethod
    def of(cls, matrix: bytes) -> Orientation:
        """Return the orientation that is nearest to a display matrix, given as nine 32-bit integers.

        Scale is ignored, and an angle is rounded to a quarter turn. A matrix without an inverse, such as one of zeros,
        changes nothing: it would make the picture vanish, so it can only be a mistake of the writer.
        """
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if a * d == b * c:
            return cls()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, b < 0, c < 0)
        return cls(False, d < 0, a < 0)

    def applied(self, picture_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a picture [H, W, 3] turned and reflected; the picture itself if there is nothing to do."""
        if self.is_transposed:
            picture_HWC = cv2.transpose(picture_HWC)
        if self.is_flipped_vertically or self.is_flipped_horizontally:
            # OpenCV's code of the direction: 0 exchanges rows, 1 columns, -1 both.
            code = -1 if self.is_flipped_vertically and self.is_flipped_horizontally else self.is_flipped_horizontally
            picture_HWC = cv2.flip(picture_HWC, int(code))
        return picture_HWC
