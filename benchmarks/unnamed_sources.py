"""What a calibration loses whose sources (recordings) are not named in the manifest, with the linear member alone.

    python benchmarks/unnamed_sources.py --features DIR [--folds 12]

Each source of the manifest is tested once. The other videos are calibrated as by `train --calibration cross` with four
members, with the sources that are known: those of the manifest (column `group`); those that `jobs/index.py` finds in
file names; or none, so that each video is its own source. In all cases near duplicates count as one source, and in the
last two also the videos that `jobs/train.py` takes for parts of one recording by their features.

The linear member is fitted in seconds. Its confidence, at the temperature of
the out-of-fold probabilities, is the trust score; the OOD score is left out. Videos are accepted at a risk of 0.05 even
if the held-out videos do not support it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt

from benchmarks import trust
from benchmarks.machine import describe
from vidclf.ensemble.linear_member import descriptors
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.metrics.intervals import SourceIntervals
from vidclf.metrics.scores import expected_calibration_error
from vidclf.training.feature_sources import found_sources
from vidclf.training.linear_fit import fit_descriptors
from vidclf.training.member_folds import NO_FOLD, plan_member_folds
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.temperature import fit_temperature, tempered

SOURCES = ("manifest", "names", "locations")
"""Where the sources are from, as in `trust.py --sources`."""
NUM_MEMBERS = 4
"""Folds of a cross calibration, one for each of so many members."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The test videos of a fold."""

    confidence_B: npt.NDArray[np.float32]
    correct_B: npt.NDArray[np.bool_]
    accepted_B: npt.NDArray[np.bool_]
    groups: list[str]
    claimed: float
    """accuracy out of fold, on the videos of the calibration"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--folds", type=int, default=12, help="number of folds")
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    rows_BK = descriptors([features.features])
    print(describe("scikit-learn", "numpy"), f"\n{len(features.labels)} videos\n")
    print("| sources | accuracy out of fold | accuracy | ECE | if calibrated perfectly | accepted | error among them |")
    print("|---|---|---|---|---|---|---|")
    for sources in SOURCES:
        found = []
        for number in range(arguments.folds):
            fresh = trust.fold(features, number, arguments.folds)
            if sources != "manifest":
                fresh = trust.with_found_sources(fresh, in_names=sources == "names")
            found.append(tested(fresh, rows_BK))
        print(f"| {sources} | {cells(found)} |", flush=True)


def tested(features: FeatureSet, rows_BK: npt.NDArray[np.float32]) -> Tested:
    """Calibrate on the train and validation videos, and classify the test videos. `rows_BK` holds the descriptors of
    all videos."""
    classes = sorted({str(label) for label in features.labels})
    labels_B = np.array([classes.index(str(label)) for label in features.labels])
    pool = replace(features, splits=["test" if name == "test" else "train" for name in features.splits])
    folds = plan_member_folds(pool, NUM_MEMBERS, [found_sources(pool).clusters])
    inside_B = folds.fold_N != NO_FOLD

    def fitted(chosen_B: npt.NDArray[np.bool_], judged_B: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Probabilities of the videos `judged_B` by the fit to the videos `chosen_B`."""
        one_fold_B = np.zeros(int(chosen_B.sum()), np.int64)  # a single fold: no calibration of the fit's own
        member = fit_descriptors(rows_BK[chosen_B], labels_B[chosen_B], one_fold_B, len(classes))
        return member.of_descriptors(rows_BK[judged_B])

    out_of_fold_BC = np.empty((len(labels_B), len(classes)), np.float32)
    for number in range(folds.num_folds):
        left_out_B = folds.fold_N == number
        out_of_fold_BC[left_out_B] = fitted(inside_B & ~left_out_B, left_out_B)
    temperature = fit_temperature(out_of_fold_BC[inside_B], labels_B[inside_B])
    known_BC = tempered(out_of_fold_BC[inside_B], temperature)
    seen_BC = tempered(fitted(inside_B, ~inside_B), temperature)
    is_right_B = known_BC.argmax(axis=1) == labels_B[inside_B]
    scores = ValidationScores(
        trust_B=known_BC.max(axis=1),
        correct_B=is_right_B,
        ood_B=np.zeros(len(known_BC), np.float32),
        source_B=np.unique(np.array(folds.groups)[inside_B], return_inverse=True)[1],
    )
    threshold = scores.threshold(trust.RISK, accept_uncertified=True).threshold
    return Tested(
        confidence_B=seen_BC.max(axis=1),
        correct_B=seen_BC.argmax(axis=1) == labels_B[~inside_B],
        accepted_B=seen_BC.max(axis=1) >= threshold,
        groups=[group for group, is_inside in zip(features.groups, inside_B, strict=True) if not is_inside],
        claimed=float(is_right_B.mean()),
    )


def cells(found: list[Tested]) -> str:
    """The cells of a row of the table, over the test videos of all folds."""
    confidence_B, correct_B, accepted_B = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("confidence_B", "correct_B", "accepted_B")
    )
    intervals = SourceIntervals([group for one in found for group in one.groups])

    def between(counted_B: npt.NDArray[np.bool_], inside_B: npt.NDArray[np.bool_] | None = None) -> str:
        return "{:.3f} to {:.3f}".format(*(intervals.share(counted_B, inside_B) or (0.0, 1.0)))

    error = trust.error_of(correct_B[accepted_B])
    return " | ".join(
        [
            f"{np.mean([one.claimed for one in found]):.3f}",
            f"{correct_B.mean():.3f} ({between(correct_B)})",
            f"{expected_calibration_error(confidence_B, correct_B):.3f}",
            f"{trust.calibrated_ece(confidence_B):.3f}",
            f"{accepted_B.mean():.3f}",
            f"{error:.3f} ({between(~correct_B, accepted_B)})",
        ]
    )


if __name__ == "__main__":
    main()
