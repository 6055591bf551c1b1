"""Early exit: deciding a video after a look at few of its frames, if that is certain enough.

One ensemble classifies a video at up to three looks (a cascade: Viola & Jones 2001, doi:10.1109/CVPR.2001.990517; early
exits: Teerapittayanon et al. 2016, arXiv:1709.01686):

- `keyframes`: a few frames that decode independently, at a fraction of the cost of decoding and of the CNN;
- `subset`: some of the frames that the full look samples; the full look computes none of them again;
- `full`: all sampled frames. In float32 the result equals that of a classification without early exit. In bfloat16 it
  is nearly equal, since batches differ.

Each early look has its own temperature (calibration), OOD line (distance beyond which a video is unlike the training
videos) and trust score (estimated probability that the label is right), fitted on the validation videos at that look.
The decision of an early look is final.

The risk is the risk of the whole cascade: the share of wrong labels among all videos that are accepted at any look.
Therefore the thresholds of all looks are chosen together, by running the whole cascade on the validation videos.
Candidates lie on paths of decreasing threshold. On a path all its looks share one threshold; paths differ in which
early looks take part. `risk_threshold.choose` picks the point that the validation data support.

In this package and in files a look is also called a stage (column `stage`).

Shape suffixes: B videos, G sources (recordings), N thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.schema import Look
from vidclf.uncertainty import risk_threshold
from vidclf.uncertainty.risk_threshold import THRESHOLDS, Acceptance, RiskThreshold, is_accepted

EARLY_LOOKS = (Look.KEYFRAMES, Look.SUBSET)
"""Names of the early looks (classifications from few frames that may decide a video), in the order in which they are
taken."""

SUBSET_FRAMES = 24
"""Number of frames of the `subset` look, an early classification from some of the sampled frames.

The look is left out if fewer than twice as many frames are sampled.
"""


@dataclass(frozen=True, kw_only=True)
class ValidationScores:
    """Scores of the validation videos at one look (a partial or full selection of their frames).

    Cross-fitted: the score of a video comes from a fit that has not seen any video of the same source (recording).
    """

    trust_B: npt.NDArray[np.float32]
    """trust score: estimated probability that the most probable class is right"""
    correct_B: npt.NDArray[np.bool_]
    """whether the most probable class is the true label"""
    ood_B: npt.NDArray[np.float32]
    """OOD (out of distribution) score: distance from the training videos; above 1 a video is never accepted"""
    source_B: npt.NDArray[np.integer]
    """number of each video's source (recording), from 0"""
    confidence_B: npt.NDArray[np.float32] | None = None
    """in a cross calibration, the confidence (probability of the most probable class) of the members that left the
    video out; otherwise None, and in ensembles of earlier versions"""

    def threshold(self, risk: float, accept_uncertified: bool = False) -> RiskThreshold:
        """Choose the lowest trust score to accept for an allowed error `risk`, if videos are classified only from the
        frames of this look.

        With `accept_uncertified`, videos are accepted even if the validation data do not support the risk.
        """
        return risk_threshold.choose([_path({}, self, [])], risk, len(self.trust_B), accept_uncertified)

    def accepts(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Whether each video is accepted at a trust threshold, as one truth value per video."""
        return is_accepted(self.trust_B, self.ood_B, threshold)


@dataclass(frozen=True, kw_only=True)
class CascadeOutcome:
    """Result of a cascade of looks (first few frames, then all) on videos with known labels."""

    share: dict[str, float]
    """share of all videos that are decided at each look (selection of frames), by its name"""
    accuracy: float
    """share of all videos whose most probable class is right, videos without an accepted label included"""
    error_among_accepted: float
    """share of wrong labels among the accepted videos; 0 if no video is accepted"""


def outcome(
    stages: Mapping[str, ValidationScores], full: ValidationScores, thresholds: RiskThreshold
) -> CascadeOutcome:
    """Result on the validation videos if early looks may decide videos by the given `thresholds`.

    `stages` holds the scores at each early look (few frames), `full` those at the full look (all sampled frames).
    """
    decided = decide(stages, full, thresholds.early, thresholds.threshold)
    shares = {name: float(is_decided_B.mean()) for name, is_decided_B in decided.by_look.items()}
    num_accepted = int(decided.is_accepted_B.sum())
    num_errors = int((decided.is_accepted_B & ~decided.correct_B).sum())
    return CascadeOutcome(
        share={**shares, Look.FULL: 1 - sum(shares.values())},
        accuracy=float(decided.correct_B.mean()),
        error_among_accepted=num_errors / max(num_accepted, 1),
    )


def stage_thresholds(
    stages: Mapping[str, ValidationScores], full: ValidationScores, risk: float, accept_uncertified: bool = False
) -> RiskThreshold:
    """Choose the lowest trust scores to accept for an allowed error `risk`, if early looks may decide videos first.

    The result holds a threshold for each early look that may decide, and one for the full look. `stages` holds the
    scores of the validation videos at each early look (few frames), `full` those at the full look (all sampled frames).
    With `accept_uncertified`, videos are accepted even if the validation data do not support the risk.
    """
    names = [name for name in EARLY_LOOKS if name in stages]
    # The path with the most early decisions comes first. The last path has no early look: it is taken if the validation
    # data do not support any decision of an early look.
    orders = [names, names[-1:], []] if len(names) > 1 else [names, []] if names else [[]]
    return risk_threshold.choose(
        [_path(stages, full, order) for order in orders], risk, len(full.trust_B), accept_uncertified
    )


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What happens to each validation video in the cascade of looks (first few frames, then all)."""

    by_look: dict[str, npt.NDArray[np.bool_]]
    """for each early look (few frames), which videos it decides"""
    is_accepted_B: npt.NDArray[np.bool_]
    """whether the video's label is accepted, from few frames or from all"""
    correct_B: npt.NDArray[np.bool_]
    """whether the label that the cascade gives to the video is right"""


def decide(
    stages: Mapping[str, ValidationScores], full: ValidationScores, early: Mapping[str, float], threshold: float
) -> Decided:
    """Run the cascade on the validation videos: early looks (few frames) decide by the trust thresholds `early`, the
    full look by `threshold`.

    `stages` holds the scores at the early looks, `full` those at the full look.
    """
    is_undecided_B, correct_B = np.ones(len(full.correct_B), bool), full.correct_B.copy()
    by_look = {}
    for name in [look for look in EARLY_LOOKS if look in early]:
        scores = stages[name]
        by_look[name] = is_undecided_B & scores.accepts(early[name])
        correct_B[by_look[name]] = scores.correct_B[by_look[name]]
        is_undecided_B &= ~by_look[name]
    return Decided(
        by_look={str(name): is_decided_B for name, is_decided_B in by_look.items()},
        is_accepted_B=~is_undecided_B | full.accepts(threshold),
        correct_B=correct_B,
    )


def _path(stages: Mapping[str, ValidationScores], full: ValidationScores, names: Sequence[str]) -> list[Acceptance]:
    """Accepted videos and errors at each candidate trust threshold, from the highest to the lowest, if early looks may
    decide videos.

    The early looks `names` (few frames) and the full look share each threshold. `stages` and `full` hold the validation
    scores.
    """
    thresholds = THRESHOLDS[::-1].tolist()
    # As float32, like a single threshold that is compared with float32 scores.
    threshold_N1 = np.array(thresholds, np.float32)[:, None]
    is_undecided_NB = np.ones((len(thresholds), len(full.correct_B)), bool)
    is_error_NB = np.broadcast_to(~full.correct_B, is_undecided_NB.shape).copy()
    for name in [look for look in EARLY_LOOKS if look in names]:
        scores = stages[name]
        decides_NB = is_undecided_NB & is_accepted(scores.trust_B, scores.ood_B, threshold_N1)
        is_error_NB = np.where(decides_NB, ~scores.correct_B, is_error_NB)
        is_undecided_NB &= ~decides_NB
    is_accepted_NB = ~is_undecided_NB | is_accepted(full.trust_B, full.ood_B, threshold_N1)
    accepted_NG = _per_source(is_accepted_NB, full.source_B)
    errors_NG = _per_source(is_accepted_NB & is_error_NB, full.source_B)
    return [
        Acceptance(
            threshold=threshold,
            accepted_G=accepted_G[accepted_G > 0],
            errors_G=errors_G[accepted_G > 0],
            early={str(name): threshold for name in names},
        )
        for threshold, accepted_G, errors_G in zip(thresholds, accepted_NG, errors_NG, strict=True)
    ]


def _per_source(is_counted_NB: npt.NDArray[np.bool_], source_B: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Number of counted videos in each source (recording), per threshold, as an array [thresholds, sources]."""
    if len(source_B) == 0:
        return np.zeros((len(is_counted_NB), 0), np.int64)
    order_B = np.argsort(source_B, kind="stable")
    starts_G = np.flatnonzero(np.diff(source_B[order_B], prepend=-1))
    return np.add.reduceat(is_counted_NB[:, order_B], starts_G, axis=1, dtype=np.int64)
