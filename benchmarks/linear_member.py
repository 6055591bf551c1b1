"""Accuracy of linear classifiers of a video's features, cross-validated over the sources, with several settings.

    python benchmarks/linear_member.py --features DIR [--folds 12]

Compared are the inputs (mean over the frames, spread, or both) and the strength of the prior of the linear member
(`vidclf/training/linear_fit.py`). Each source (recording) is tested once, by a fit on all other sources. The output is
a table with the accuracy, its 95 % interval over the sources, and the log loss after calibration.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt

from benchmarks.held_out import joined_groups
from benchmarks.machine import describe
from vidclf.ensemble.linear_member import descriptors
from vidclf.features.feature_set import read_features
from vidclf.metrics.intervals import SourceIntervals
from vidclf.training import linear_fit
from vidclf.uncertainty.folds import group_folds

PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Values of `linear_fit.PRIOR_VARIANCE` to compare."""

Rows = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--folds", type=int, default=12, help="number of folds")
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    groups, classes = joined_groups(features), sorted({str(label) for label in features.labels})
    labels_B = np.array([classes.index(str(label)) for label in features.labels])
    folds_B = group_folds(labels_B.tolist(), groups, arguments.folds)
    rows_BK = descriptors([features.features])
    half = rows_BK.shape[1] // 2
    inputs: dict[str, Callable[[Rows], Rows]] = {
        "mean": lambda rows_BK: rows_BK[:, :half],
        "spread": lambda rows_BK: rows_BK[:, half:],
        "mean and spread": lambda rows_BK: rows_BK,
    }
    intervals = SourceIntervals(groups)
    print(describe("scikit-learn", "numpy"), f"\n{len(labels_B)} videos of {len(set(groups))} sources\n")
    print("| input | prior variance | accuracy | 95 % interval | log loss |\n|---|---|---|---|---|")
    for name, part in inputs.items():
        for prior in PRIORS:
            with mock.patch.object(linear_fit, "PRIOR_VARIANCE", prior):
                probabilities_BC = tested(part(rows_BK), labels_B, folds_B, len(classes))
            correct_B = probabilities_BC.argmax(axis=1) == labels_B
            low, high = intervals.share(correct_B) or (0.0, 1.0)
            loss = -np.log(np.maximum(probabilities_BC[np.arange(len(labels_B)), labels_B], 1e-12)).mean()
            print(f"| {name} | {prior:g} | {correct_B.mean():.3f} | {low:.3f} to {high:.3f} | {loss:.3f} |", flush=True)


def tested(rows_BK: Rows, labels_B: npt.NDArray[np.int64], folds_B: npt.NDArray[np.int64], num_classes: int) -> Rows:
    """Calibrated probabilities [videos, classes] of each video, by a fit on the other folds."""
    probabilities_BC = np.empty((len(labels_B), num_classes), np.float32)
    for fold in np.unique(folds_B):
        inside = folds_B != fold
        member = linear_fit.fit_descriptors(rows_BK[inside], labels_B[inside], folds_B[inside], num_classes)
        probabilities_BC[~inside] = member.of_descriptors(rows_BK[~inside])
    return probabilities_BC


if __name__ == "__main__":
    main()
