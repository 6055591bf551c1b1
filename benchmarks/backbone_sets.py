"""Accuracy of the linear member on the features of one or several backbones, cross-validated over the sources.

    python benchmarks/backbone_sets.py --features DIR,DIR,DIR [--folds 12]

The directories hold features of the same videos by different backbones. Every set of them is compared on the same
folds, which keep the sources (recordings) and the near duplicates of the first backbone together. The output is a table
with the accuracy, its 95 % interval over the sources, and the log loss after calibration.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.held_out import joined_groups
from benchmarks.linear_member import tested
from benchmarks.machine import describe
from vidclf.ensemble.linear_member import descriptors
from vidclf.features.feature_set import read_features
from vidclf.metrics.intervals import SourceIntervals
from vidclf.uncertainty.folds import group_folds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directories, separated by commas")
    parser.add_argument("--folds", type=int, default=12, help="number of folds")
    arguments = parser.parse_args()
    features_S = [read_features(directory) for directory in arguments.features.split(",")]
    first = features_S[0]
    order_S = [[each.video_ids.index(video) for video in first.video_ids] for each in features_S]
    sequences_S = [[each.features[row] for row in order] for each, order in zip(features_S, order_S, strict=True)]
    groups, classes = joined_groups(first), sorted({str(label) for label in first.labels})
    labels_B = np.array([classes.index(str(label)) for label in first.labels])
    folds_B = group_folds(labels_B.tolist(), groups, arguments.folds)
    intervals = SourceIntervals(groups)
    print(describe("scikit-learn", "numpy"), f"\n{len(labels_B)} videos of {len(set(groups))} sources\n")
    print("| backbones | accuracy | 95 % interval | log loss |\n|---|---|---|---|")
    spaces = range(len(features_S))
    for size in range(1, len(features_S) + 1):
        for chosen in itertools.combinations(spaces, size):
            rows_BK = descriptors([sequences_S[space] for space in chosen])
            probabilities_BC = tested(rows_BK, labels_B, folds_B, len(classes))
            correct_B = probabilities_BC.argmax(axis=1) == labels_B
            low, high = intervals.share(correct_B) or (0.0, 1.0)
            loss = -np.log(np.maximum(probabilities_BC[np.arange(len(labels_B)), labels_B], 1e-12)).mean()
            names = ", ".join(features_S[space].spec.backbone for space in chosen)
            print(f"| {names} | {correct_B.mean():.3f} | {low:.3f} to {high:.3f} | {loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
