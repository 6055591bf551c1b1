"""Agreement of two engines (ways to run one CNN): how similar their features of a few photographs are.

Shape suffixes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
"""Type of an array of T RGB frames: [T, H, W, 3] uint8."""

Features = npt.NDArray[np.float32]
"""Type of an array of features: [T, D] float32, one vector of D numbers per frame."""

LEAST_AGREEMENT = 0.99
"""Smallest agreement with fp32 (see `agreement`) at which `--precision auto` uses the faster bf16 or TF32.

It is measured on `reference_photos`.
"""

LEAST_EQUALITY = 0.9999
"""Smallest agreement (see `agreement`) of OpenVINO with torch, both in fp32. Below this value the conversion to
OpenVINO has failed."""

LEAST_REPRODUCTION = 0.999
"""Smallest agreement (see `agreement`) between the features of an 8-bit backbone on this processor and those on the
machine that quantized it. Below this value the backbone is refused."""


def agreement(some_TD: Features, reference_TD: Features) -> float:
    """Return how similar two sets of features of the same T frames are: a number, 1 for equal features.

    The number is the mean cosine over the frames, after the mean of `reference_TD` is subtracted from both. Without
    this centring, the part that all frames have in common would hide the differences.
    """
    centre_D = reference_TD.mean(axis=0)
    a_TD, b_TD = (features_TD.astype(np.float64) - centre_D for features_TD in (some_TD, reference_TD))
    norms_T = np.linalg.norm(a_TD, axis=1) * np.linalg.norm(b_TD, axis=1)
    return float(((a_TD * b_TD).sum(axis=1) / norms_T).mean())


def reference_photos(side: int) -> Frames:
    """Return eight frames [8, side, side, 3] on which engines are compared.

    They are crops of two photographs, scikit-learn's sample images. Each crop comes twice: unchanged, and with four
    levels per channel, because drawings and pages have flat colours.
    """
    from sklearn.datasets import load_sample_images

    parts = [
        photograph[y : y + 2 * side : step][:side, x : x + 2 * side : step][:, :side]
        for photograph in (np.tile(image, (3, 3, 1)) for image in load_sample_images().images)
        for step, y, x in ((1, 60, 120), (2, 0, 300))
    ]
    return np.ascontiguousarray(np.stack([*parts, *(part // 64 * 64 for part in parts)]))
