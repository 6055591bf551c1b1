"""Accuracy of simple classifiers on CNN features of videos whose sources were not in training.

    python benchmarks/features.py --features DIR [DIR ...] [--seeds 0,...,11]

It shows how much the features themselves reveal, without the temporal model and the ensemble of vidclf. For example, it
shows whether features of another precision are worse. Each video is represented by the mean of the features of its
frames, or by the mean of their square roots. Classifiers of scikit-learn are trained on the training part of a split by
source (videos cut from one recording), as in `trust.py`, and tested on the test part. A test part has few videos only,
so the results of the splits of all seeds are pooled.

Columns: directory of the features; pooling over frames; accuracy per classifier; number of test videos in all splits.
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
    parser.add_argument(
        "--features", required=True, nargs="+", help="output directories of jobs/extract.py, all over the same videos"
    )
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9,10,11", help="seeds of the splits, comma-separated")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(describe("scikit-learn"), "\n")
    print(
        f"| features | pooling | {' | '.join(CLASSIFIERS)} | test videos |\n|---|---|{'---|' * (len(CLASSIFIERS) + 1)}"
    )
    for directory in arguments.features:
        features = read_features(directory)
        means = {
            "mean": np.stack([frames.astype(np.float32).mean(0) for frames in features.features]),
            "mean square root": np.stack(
                [np.sqrt(np.maximum(frames.astype(np.float32), 0)).mean(0) for frames in features.features]
            ),
        }
        for name, rows_BD in means.items():
            correct = {key: accuracy(features, rows_BD, make, seeds) for key, make in CLASSIFIERS.items()}
            accuracies = " | ".join(f"{hits.mean():.3f}" for hits in correct.values())
            print(f"| {directory} | {name} | {accuracies} | {len(next(iter(correct.values())))} |", flush=True)


def accuracy(
    features: FeatureSet, rows_BD: npt.NDArray[np.float32], make: Callable[[], Any], seeds: list[int]
) -> npt.NDArray[np.bool_]:
    """Whether each test video of the splits of all seeds is classified correctly, as one array.

    `rows_BD` holds one vector per video; `make` returns a new classifier of scikit-learn.
    """
    labels = np.array(features.labels)
    correct = []
    for seed in seeds:
        parts = np.array(split(features, seed).splits)
        classifier = make().fit(rows_BD[parts == "train"], labels[parts == "train"])
        correct.append(classifier.predict(rows_BD[parts == "test"]) == labels[parts == "test"])
    return np.concatenate(correct)


if __name__ == "__main__":
    main()
