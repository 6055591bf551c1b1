"""What simple classifiers make of features: accuracy on sources that they have not seen.

    python benchmarks/features.py --features DIR [DIR ...] [--seeds 0,...,11]

No temporal model, no ensemble: each video is the mean of its frames' features, or of their square roots, and
scikit-learn's classifiers are fitted to the training part of each seed's split (by source, as in `trust.py`)
and asked about its test part. That says what the features hold, and whether another precision or tolerance
has lost some of it; pooled over the seeds, since a split's test part has a few videos only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from benchmarks.trust import split
from vidclf.features.feature_set import FeatureSet, read_features

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
    "discriminant analysis": lambda: LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC(C=3)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, nargs="+", help="of the same videos")
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9,10,11")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(describe("scikit-learn"), "\n")
    print(f"| features | of | {' | '.join(CLASSIFIERS)} | videos |\n|---|---|{'---|' * (len(CLASSIFIERS) + 1)}")
    for directory in arguments.features:
        features = read_features(directory)
        means = {
            "mean": np.stack([frames.astype(np.float32).mean(0) for frames in features.features]),
            "mean square root": np.stack(
                [np.sqrt(np.maximum(frames.astype(np.float32), 0)).mean(0) for frames in features.features]
            ),
        }
        for name, rows_BD in means.items():
            right = {key: accuracy(features, rows_BD, make, seeds) for key, make in CLASSIFIERS.items()}
            told = " | ".join(f"{hits.mean():.3f}" for hits in right.values())
            print(f"| {directory} | {name} | {told} | {len(next(iter(right.values())))} |", flush=True)


def accuracy(
    features: FeatureSet, rows_BD: npt.NDArray[np.float32], make: Callable[[], Any], seeds: list[int]
) -> npt.NDArray[np.bool_]:
    """Which test videos of all seeds are classified right."""
    labels = np.array(features.labels)
    right = []
    for seed in seeds:
        parts = np.array(split(features, seed).splits)
        classifier = make().fit(rows_BD[parts == "train"], labels[parts == "train"])
        right.append(classifier.predict(rows_BD[parts == "test"]) == labels[parts == "test"])
    return np.concatenate(right)


if __name__ == "__main__":
    main()
