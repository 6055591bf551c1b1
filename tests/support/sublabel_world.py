"""Simulated calibrations of an ensemble with sublabels, whose true errors are known.

Shape suffixes: B videos.
"""

from __future__ import annotations

import numpy as np

from vidclf.uncertainty import sublabel_threshold
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.risk_threshold import CERTIFIED
from vidclf.uncertainty.sublabel_threshold import SublabelScores


def drawn(generator: np.random.Generator, num_videos: int) -> tuple[ValidationScores, SublabelScores]:
    """Videos of as many sources, whose classes are trusted too much and whose sublabels are trusted too little."""
    trust_B, within_B = generator.uniform(0.5, 1, (2, num_videos)).astype(np.float32)
    correct_B = generator.uniform(size=num_videos) < 1 - 1.3 * (1 - trust_B)
    right_B = correct_B & (generator.uniform(size=num_videos) < 1 - 0.8 * (1 - within_B))
    classes = ValidationScores(
        trust_B=trust_B,
        correct_B=correct_B,
        ood_B=np.zeros(num_videos, np.float32),
        source_B=np.arange(num_videos),
    )
    return classes, SublabelScores(trust_B=trust_B * within_B, right_B=right_B.astype(np.int64))


def certified_errors(
    calibration: tuple[ValidationScores, SublabelScores],
    population: tuple[ValidationScores, SublabelScores],
    risk: float,
) -> list[float | None]:
    """True errors, in `population`, of what the thresholds of `calibration` certify for `risk`: among accepted classes,
    among answered sublabels, and among all answers at their levels. None where nothing is certified."""
    scores, found = calibration
    of_all, fine_of_all = population
    classes = scores.threshold(risk)
    chosen = sublabel_threshold.choose(classes, (scores, found), {}, risk)
    is_accepted_B = of_all.trust_B >= np.float32(classes.threshold)
    is_fine_B = is_accepted_B & (fine_of_all.trust_B >= np.float32(chosen.threshold))
    is_right_B = np.where(is_fine_B, fine_of_all.right_B == 1, of_all.correct_B)
    statements = [
        (classes.basis, ~of_all.correct_B[is_accepted_B]),
        (chosen.basis, ~is_right_B[is_fine_B]),
        (chosen.basis, ~is_right_B[is_accepted_B]),
    ]
    # Where nothing is answered, nothing is wrong.
    return [wrong_B.sum() / max(len(wrong_B), 1) if basis == CERTIFIED else None for basis, wrong_B in statements]
