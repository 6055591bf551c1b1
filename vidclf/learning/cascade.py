"""Deciding on a video early: stages that look at more and more of it, until one is sure enough.

A cascade (Viola & Jones 2001, doi:10.1109/CVPR.2001.990517; early exits: Teerapittayanon et al. 2016,
arXiv:1709.01686) of one ensemble over three looks at a video:

- `keyframes`: a few of the frames that decode without any other, a fraction of the decoding and of the CNN;
- `subset`: some of the frames that the full look samples, of which none is computed again there;
- `full`: all of these; in float32 the same as without stages, in bfloat16 nearly, since batches are others.

An early stage's temperature, OOD line and trust score are fitted on validation's videos as this stage sees
them. What it decides is final, so its threshold keeps the error among the videos that it accepts under the
risk, judged on those of validation that earlier stages have left to it. Where validation cannot say as much of
the full look either, that is no reason to go on: going on pays where a longer look would be right and this one
is not (Jitkrittum et al. 2023, arXiv:2307.02764). The threshold then keeps under the risk the errors that the
full look would not make. A stage of which neither can be said is left out.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.learning.trust import RiskThreshold, at_threshold, risk_threshold

KEYFRAMES, SUBSET = EARLY_STAGES = ("keyframes", "subset")
FULL = "full"

SUBSET_FRAMES = 24
"""Frames of the `subset` stage; the stage is left out where the full look has not at least twice as many."""


@dataclass(frozen=True, kw_only=True)
class StageData:
    """What an early stage says of validation's videos, by fits that had not seen a video's source."""

    trust_B: npt.NDArray[np.float32]
    correct_B: npt.NDArray[np.bool_]
    ood_B: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CascadeOutcome:
    """What a cascade does with validation's videos."""

    share: dict[str, float]
    """of the videos, by the stage that decides"""
    accuracy: float


def outcome(
    stages: Mapping[str, StageData], full_correct_B: npt.NDArray[np.bool_], thresholds: Mapping[str, float]
) -> CascadeOutcome:
    """Let the early stages decide from `thresholds` on, and the full look, right where `full_correct_B`, the
    rest."""
    is_left_B, is_right_B = np.ones(len(full_correct_B), bool), full_correct_B.copy()
    share = {}
    for name in [stage for stage in EARLY_STAGES if stage in thresholds]:
        stage = stages[name]
        is_decided_B = is_left_B & (stage.ood_B <= 1) & (stage.trust_B >= thresholds[name])
        is_right_B[is_decided_B] = stage.correct_B[is_decided_B]
        share[name] = float(is_decided_B.mean())
        is_left_B &= ~is_decided_B
    return CascadeOutcome(share={**share, FULL: float(is_left_B.mean())}, accuracy=float(is_right_B.mean()))


def stage_thresholds(
    stages: Mapping[str, StageData],
    full_trust_B: npt.NDArray[np.float32],
    full_correct_B: npt.NDArray[np.bool_],
    risk: float,
) -> dict[str, RiskThreshold]:
    """The trust score from which on each early stage decides, of the stages that may; in their order.

    `full_…` are the full look's trust scores and hits on validation. As there, no video is accepted whose OOD
    score is above 1.
    """
    full = risk_threshold(full_trust_B, full_correct_B, risk)
    is_shared_error_B = ~full_correct_B & (full_trust_B >= full.threshold)
    thresholds: dict[str, RiskThreshold] = {}
    is_left_B = np.ones(len(full_correct_B), bool)
    for name in [stage for stage in EARLY_STAGES if stage in stages]:
        stage = stages[name]
        is_eligible_B = is_left_B & (stage.ood_B <= 1)
        trust_B, correct_B = stage.trust_B[is_eligible_B], stage.correct_B[is_eligible_B]
        found = risk_threshold(trust_B, correct_B, risk)
        if found.basis == full.basis == "unreached":
            # Nor does a stage begin below the full look's threshold.
            is_sure_B = trust_B >= full.threshold
            is_no_worse_B = correct_B | is_shared_error_B[is_eligible_B]
            beside = risk_threshold(trust_B[is_sure_B], is_no_worse_B[is_sure_B], risk)
            if beside.basis != "unreached":
                found = at_threshold(max(beside.threshold, full.threshold), trust_B, correct_B, "as full")
        if found.basis != "unreached":
            thresholds[name] = found
            is_left_B &= ~(is_eligible_B & (stage.trust_B >= found.threshold))
    return thresholds
