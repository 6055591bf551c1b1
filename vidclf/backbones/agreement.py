"""Whether two ways of running a backbone give the same features, found out on a few pictures.

Shape suffixes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

Features = npt.NDArray[np.float32]

LEAST_AGREEMENT = 0.99
"""Least cosine of centred features between bf16 and fp32, averaged over the probe's frames, for bf16 to
be taken of itself."""

LEAST_EQUALITY = 0.9999
"""The same between OpenVINO and torch, both in fp32: below it the conversion has failed."""

LEAST_REPRODUCTION = 0.999
"""The same between a quantized backbone here and where it was quantized."""


def agreement(some_TD: Features, reference_TD: Features) -> float:
    """Mean cosine over the frames, after the mean of `reference_TD` is taken off both: without that,
    what all frames share would hide the differences."""
    centre_D = reference_TD.mean(axis=0)
    a_TD, b_TD = (values.astype(np.float64) - centre_D for values in (some_TD, reference_TD))
    norms_T = np.linalg.norm(a_TD, axis=1) * np.linalg.norm(b_TD, axis=1)
    return float(((a_TD * b_TD).sum(axis=1) / norms_T).mean())


def reference_photos(side: int) -> Frames:
    """Frames [8, side, side, 3] to compare engines on: parts of two photographs (scikit-learn's samples),
    each as it is and in four grey levels a channel, as drawings and pages are flat."""
    from sklearn.datasets import load_sample_images

    parts = [
        photograph[y : y + 2 * side : step][:side, x : x + 2 * side : step][:, :side]
        for photograph in (np.tile(image, (3, 3, 1)) for image in load_sample_images().images)
        for step, y, x in ((1, 60, 120), (2, 0, 300))
    ]
    return np.ascontiguousarray(np.stack([*parts, *(part // 64 * 64 for part in parts)]))
