"""The lowest trust with which a sublabel is answered, for a stated risk.

Two shares must be at most the risk, by the same tests as for classes (`risk_threshold.py`): that of wrong sublabels
among the videos that are answered with a sublabel, and that of wrong answers among all answers, whatever their level.
So a sublabel is as reliable as a class label, and finer answers do not make the answers as a whole less reliable.
The threshold of the classes is chosen first, and does not depend on sublabels.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty import early_exit, risk_threshold
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.risk_threshold import THRESHOLDS, Acceptance, RiskThreshold

RIGHT, WRONG, NOT_KNOWN = 1, 0, -1
"""Values of `SublabelScores.right_B`."""


@dataclass(frozen=True, kw_only=True)
class SublabelScores:
    """Scores of the sublabels of the validation videos at one look (a partial or full selection of their frames).

    Cross-fitted, as `ValidationScores`.
    """

    trust_B: npt.NDArray[np.float32]
    """estimated probability that the sublabel is right; 0 if the most probable class has no sublabels"""
    right_B: npt.NDArray[np.int64]
    """`RIGHT`, `WRONG`, or `NOT_KNOWN` if the true class has sublabels and that of the video is not known.

    A sublabel is wrong if its class is, and if the true sublabel is not in the taxonomy. Whether a video is `NOT_KNOWN`
    does not depend on the prediction: otherwise leaving such videos out would change the shares of errors."""


@dataclass(frozen=True, kw_only=True)
class LevelAcceptance(Acceptance):
    """Videos that are answered with a sublabel at one candidate threshold, and the answers at all levels."""

    answers: Acceptance
    """all answered videos but those of unknown sublabels; an error is a wrong answer at the level of the answer"""

    def certifies(self, risk: float, error_rate: float, num_wrong: int | None = None) -> bool:
        """Whether tests show that both shares of wrong answers are at most `risk`; see `Acceptance.certifies`.

        With `num_wrong`, only the sublabels are tested.
        """
        return super().certifies(risk, error_rate, num_wrong) and (
            num_wrong is not None or self.answers.certifies(risk, error_rate)
        )

    def estimates(self, risk: float, num_wrong: int | None = None) -> bool:
        """Whether both expected shares of wrong answers are at most `risk`. With `num_wrong`, only that of the
        sublabels."""
        return super().estimates(risk, num_wrong) and (num_wrong is not None or self.answers.estimates(risk))


def choose(
    classes: RiskThreshold,
    full: tuple[ValidationScores, SublabelScores],
    stages: Mapping[str, tuple[ValidationScores, SublabelScores]],
    risk: float,
    accept_uncertified: bool = False,
) -> RiskThreshold:
    """Choose the lowest trust of a sublabel for an allowed error `risk`.

    `classes`: the thresholds chosen for the classes. `full` and `stages` hold the scores of the validation videos at
    the full look and at each early look (few frames). All looks share the threshold of the sublabels.
    """
    scores, sublabels = full
    decided = early_exit.decide(
        {name: early for name, (early, _) in stages.items()}, scores, classes.early, classes.threshold
    )
    trust_B, right_B = sublabels.trust_B.copy(), sublabels.right_B.copy()
    for name, is_decided_B in decided.by_look.items():
        early = stages[name][1]
        trust_B[is_decided_B], right_B[is_decided_B] = early.trust_B[is_decided_B], early.right_B[is_decided_B]
    is_judged_B = decided.is_accepted_B & (right_B != NOT_KNOWN)
    is_candidate_B = is_judged_B & (trust_B > 0)
    path = []
    for threshold in THRESHOLDS[::-1].tolist():
        is_sublabel_B = is_candidate_B & (trust_B >= np.float32(threshold))
        is_right_B = np.where(is_sublabel_B, right_B == RIGHT, decided.correct_B)
        own = Acceptance.of(threshold, is_sublabel_B, is_right_B, scores.source_B)
        answers = Acceptance.of(threshold, is_judged_B, is_right_B, scores.source_B)
        path.append(
            LevelAcceptance(
                threshold=threshold,
                accepted_G=own.accepted_G,
                errors_G=own.errors_G,
                early=own.early,
                answers=answers,
            )
        )
    return risk_threshold.choose([path], risk, int((right_B != NOT_KNOWN).sum()), accept_uncertified)


def text(chosen: RiskThreshold, risk: float) -> str:
    """One line for users about the threshold of the sublabels."""
    if chosen.abstains_on_all:
        return (
            f"sublabels: none is answered, since the {chosen.num_videos} held-out videos whose sublabel is known "
            f"support no trust for --abstain-risk {risk:g}; top_sublabel holds the most probable one"
        )
    return (
        f"sublabels: risk basis {chosen.basis}, answered from trust {chosen.threshold:.2f} ({chosen.num_accepted} of "
        f"{chosen.num_videos} held-out videos whose sublabel is known, {chosen.num_errors} of them wrong; "
        f"{chosen.num_sources} sources)"
    )
