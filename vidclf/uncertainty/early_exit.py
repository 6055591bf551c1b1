"""Deciding on a video early: stages that look at more and more of it, until one is sure enough.

A cascade (Viola & Jones 2001, doi:10.1109/CVPR.2001.990517; early exits: Teerapittayanon et al. 2016,
arXiv:1709.01686) of one ensemble over three looks at a video:

- `keyframes`: a few of the frames that decode without any other, a fraction of the decoding and of the CNN;
- `subset`: some of the frames that the full look samples, of which none is computed again there;
- `full`: all of these; in float32 the same as without stages, in bfloat16 nearly, since batches are others.

An early stage's temperature, OOD line and trust score are fitted on validation's videos as this stage sees
them. What it decides is final. The risk is that of the cascade: the share of wrong labels among all videos that it
accepts, whichever stage accepts them. So the stages' thresholds are chosen together, on the videos of validation as
the whole cascade would decide on them. They move along paths: all stages from one trust score on, the early stages
from stricter ones, or some stages left out; `risk.choose` takes the point of a path that validation supports.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty import risk_threshold
from vidclf.uncertainty.risk_threshold import THRESHOLDS, Acceptance, RiskThreshold

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
    source_B: npt.NDArray[np.integer]
    """each video's source, numbered from 0"""

    def threshold(self, risk: float, accept_uncertified: bool = False) -> RiskThreshold:
        """The trust score from which on the stage alone accepts a video, unless it is out of distribution."""
        return risk_threshold.choose([_path({}, self, [])], risk, len(self.trust_B), accept_uncertified)

    def accepts(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Which of the videos, [B]."""
        return (self.trust_B >= threshold) & (self.ood_B <= 1)


@dataclass(frozen=True, kw_only=True)
class CascadeOutcome:
    """What a cascade does with some videos whose labels are known."""

    share: dict[str, float]
    """of the videos, by the stage that decides"""
    accuracy: float
    """of the most probable classes, those of abstained videos included"""
    error_among_accepted: float
    """0 where none is accepted"""


def outcome(stages: Mapping[str, ValidationScores], full: ValidationScores, found: RiskThreshold) -> CascadeOutcome:
    """Let the early stages decide from their thresholds on, and the full look the rest."""
    decided = _decided(stages, full, found.early, found.threshold)
    shares = {name: float(is_decided_B.mean()) for name, is_decided_B in decided.by_stage.items()}
    num_accepted = int(decided.is_accepted_B.sum())
    num_errors = int((decided.is_accepted_B & ~decided.correct_B).sum())
    return CascadeOutcome(
        share={**shares, FULL: 1 - sum(shares.values())},
        accuracy=float(decided.correct_B.mean()),
        error_among_accepted=num_errors / max(num_accepted, 1),
    )


def stage_thresholds(
    stages: Mapping[str, ValidationScores], full: ValidationScores, risk: float, accept_uncertified: bool = False
) -> RiskThreshold:
    """The thresholds of the full look and of the early stages that may decide; `full` is the full look."""
    names = [name for name in EARLY_STAGES if name in stages]
    # The most that is decided early first. Without early stages last: where these cannot be vouched for.
    orders = [names, names[-1:], []] if len(names) > 1 else [names, []] if names else [[]]
    return risk_threshold.choose(
        [_path(stages, full, order) for order in orders], risk, len(full.trust_B), accept_uncertified
    )


@dataclass(frozen=True, kw_only=True)
class _Decided:
    by_stage: dict[str, npt.NDArray[np.bool_]]
    """which videos each early stage decides"""
    is_accepted_B: npt.NDArray[np.bool_]
    correct_B: npt.NDArray[np.bool_]
    """of the look that decides"""


def _decided(
    stages: Mapping[str, ValidationScores], full: ValidationScores, early: Mapping[str, float], threshold: float
) -> _Decided:
    is_left_B, correct_B = np.ones(len(full.correct_B), bool), full.correct_B.copy()
    by_stage = {}
    for name in [stage for stage in EARLY_STAGES if stage in early]:
        stage = stages[name]
        by_stage[name] = is_left_B & stage.accepts(early[name])
        correct_B[by_stage[name]] = stage.correct_B[by_stage[name]]
        is_left_B &= ~by_stage[name]
    return _Decided(by_stage=by_stage, is_accepted_B=~is_left_B | full.accepts(threshold), correct_B=correct_B)


def _path(stages: Mapping[str, ValidationScores], full: ValidationScores, names: Sequence[str]) -> list[Acceptance]:
    """The cascade of some early stages and the full look, all from one trust score on, the highest first."""
    path = []
    for threshold in THRESHOLDS[::-1].tolist():
        early = dict.fromkeys(names, threshold)
        decided = _decided(stages, full, early, threshold)
        path.append(Acceptance.of(threshold, decided.is_accepted_B, decided.correct_B, full.source_B, early))
    return path
