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
full look would not make. A stage of which neither can be said is left out. So a risk that is kept is never given
up for speed, while one that nothing can keep may let a stage decide that a milder one has left out.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty.risk_threshold import RiskThreshold, at_threshold, risk_threshold

KEYFRAMES, SUBSET = EARLY_STAGES = ("keyframes", "subset")

FULL = "full"

SUBSET_FRAMES = 24
"""Frames of the `subset` stage; the stage is left out where the full look has not at least twice as many."""


@dataclass(frozen=True, kw_only=True)
class ValidationScores:
    """What a stage says of validation's videos, by fits that had not seen a video's source."""

    trust_B: npt.NDArray[np.float32]
    correct_B: npt.NDArray[np.bool_]
    ood_B: npt.NDArray[np.float32]

    def threshold(self, risk: float) -> RiskThreshold:
        """The trust score from which on the stage accepts a video, unless it is out of distribution."""
        known = self.in_distribution()
        return risk_threshold(known.trust_B, known.correct_B, risk)

    def accepts(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Which of the videos, [B]."""
        return (self.trust_B >= threshold) & (self.ood_B <= 1)

    def in_distribution(self) -> ValidationScores:
        """Of the videos that may be accepted."""
        return self.of(self.ood_B <= 1)

    def of(self, is_in_B: npt.NDArray[np.bool_]) -> ValidationScores:
        """Of some of the videos."""
        return ValidationScores(
            trust_B=self.trust_B[is_in_B], correct_B=self.correct_B[is_in_B], ood_B=self.ood_B[is_in_B]
        )


@dataclass(frozen=True, kw_only=True)
class CascadeOutcome:
    """What a cascade does with validation's videos."""

    share: dict[str, float]
    """of the videos, by the stage that decides"""
    accuracy: float


def outcome(
    stages: Mapping[str, ValidationScores], full_correct_B: npt.NDArray[np.bool_], thresholds: Mapping[str, float]
) -> CascadeOutcome:
    """Let the early stages decide from `thresholds` on, and the full look, right where `full_correct_B`, the
    rest."""
    is_left_B, is_right_B = np.ones(len(full_correct_B), bool), full_correct_B.copy()
    share = {}
    for name in [stage for stage in EARLY_STAGES if stage in thresholds]:
        stage = stages[name]
        is_decided_B = is_left_B & stage.accepts(thresholds[name])
        is_right_B[is_decided_B] = stage.correct_B[is_decided_B]
        share[name] = float(is_decided_B.mean())
        is_left_B &= ~is_decided_B
    return CascadeOutcome(share={**share, FULL: float(is_left_B.mean())}, accuracy=float(is_right_B.mean()))


def stage_thresholds(
    stages: Mapping[str, ValidationScores], full: ValidationScores, risk: float
) -> dict[str, RiskThreshold]:
    """The trust score from which on each early stage decides, of the stages that may; in their order. `full` is
    the full look."""
    of_full = full.threshold(risk)
    is_shared_error_B = ~full.correct_B & full.accepts(of_full.threshold)
    thresholds: dict[str, RiskThreshold] = {}
    is_left_B = np.ones(len(full.correct_B), bool)
    for name in [stage for stage in EARLY_STAGES if stage in stages]:
        stage = stages[name]
        left = stage.of(is_left_B)
        found = left.threshold(risk)
        if found.basis == of_full.basis == "unreached":
            found = _beside_full(left, is_shared_error_B[is_left_B], of_full.threshold, risk) or found
        if found.basis != "unreached":
            thresholds[name] = found
            is_left_B &= ~stage.accepts(found.threshold)
    return thresholds


def _beside_full(
    left: ValidationScores, is_shared_error_B: npt.NDArray[np.bool_], full_threshold: float, risk: float
) -> RiskThreshold | None:
    """The threshold of a stage by the errors that the full look would spare, of the videos that are left to it;
    not below that of the full look. None where these too are above the risk."""
    is_sure_B = left.accepts(full_threshold)
    is_no_worse_B = left.correct_B | is_shared_error_B
    beside = risk_threshold(left.trust_B[is_sure_B], is_no_worse_B[is_sure_B], risk)
    if beside.basis == "unreached":
        return None
    threshold = max(beside.threshold, full_threshold)
    known = left.in_distribution()
    seen = at_threshold(threshold, known.trust_B, known.correct_B, "as full")
    return replace(seen, num_spared=int((left.accepts(threshold) & ~is_no_worse_B).sum()))
