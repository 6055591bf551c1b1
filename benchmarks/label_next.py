"""Which videos to label next: what the choice of `classify --label-next` gains over others.

    python benchmarks/label_next.py --features DIR [--repeats 100] [--start 16] [--number 12]

Repeats with random sources: a third of them are test videos, `--start` sources are labelled, the others form the
archive to choose from. A logistic regression of mean features is fitted to the labelled videos, and again after each
rule has chosen `--number` videos of different sources. In the rows "one source of a class", one class has only one
labelled source. The confidence stands for the trust score. Printed are the accuracy on the test videos and the paired
difference from a random choice, with two standard errors.

Shape suffixes: B videos, D features, C classes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.machine import describe
from vidclf.features.feature_set import read_features
from vidclf.uncertainty.informative import most_informative

RULES = ("random", "least confident", "by classes", "by classes and features")
"""Rules of choice; the last two are those of vidclf without and with stored features."""

TEST_SHARE = 1 / 3
"""Share of the sources whose videos are test videos."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--repeats", type=int, default=100, help="number of random draws of sources")
    parser.add_argument("--start", type=int, default=16, help="number of labelled sources at the start")
    parser.add_argument("--number", type=int, default=12, help="number of videos to choose")
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    means_BD = np.stack([frames_TD.astype(np.float32).mean(axis=0) for frames_TD in features.features])
    label_B = np.unique([str(label) for label in features.labels], return_inverse=True)[1]
    source_B = np.array(features.groups)
    print(describe("scikit-learn"), f"\n{len(label_B)} videos of {len(set(features.groups))} sources\n")
    print("| labelled at the start | rule | accuracy before | after | more than random |\n|---|---|---|---|---|")
    for name, lacks_class in (("all classes", False), ("one source of a class", True)):
        before, after = [], []
        for seed in range(arguments.repeats):
            found = one(means_BD, label_B, source_B, seed, arguments.start, arguments.number, lacks_class)
            if found is not None:
                before.append(found[0])
                after.append(found[1])
        after_NR = np.array(after)
        for index, rule in enumerate(RULES):
            gain_N = after_NR[:, index] - after_NR[:, 0]
            error = 2 * gain_N.std(ddof=1) / np.sqrt(len(gain_N))
            print(
                f"| {name} | {rule} | {np.mean(before):.3f} | {after_NR[:, index].mean():.3f} | "
                f"{gain_N.mean():+.3f} ± {error:.3f} |"
            )


def one(
    means_BD: npt.NDArray[np.float32],
    label_B: npt.NDArray[np.int64],
    source_B: npt.NDArray[Any],
    seed: int,
    num_start: int,
    number: int,
    lacks_class: bool,
) -> tuple[float, list[float]] | None:
    """Accuracy on the test videos before the choice and after each of `RULES`; None if a class has no label."""
    generator = np.random.default_rng(seed)
    sources = generator.permutation(np.unique(source_B))
    num_test = round(TEST_SHARE * len(sources))
    is_test_B = np.isin(source_B, sources[:num_test])
    is_labelled_B = np.isin(source_B, sources[num_test : num_test + num_start])
    is_pool_B = ~is_test_B & ~is_labelled_B
    if lacks_class:
        is_rare_B = is_labelled_B & (label_B == seed % (label_B.max() + 1))
        kept = source_B[is_rare_B][:1]
        is_labelled_B &= ~is_rare_B | np.isin(source_B, kept)
    if len(set(label_B[is_labelled_B].tolist())) <= label_B.max():
        return None
    scaler = StandardScaler(with_std=False).fit(means_BD[is_labelled_B])
    scaled_BD = scaler.transform(means_BD)
    scaled_BD /= np.sqrt((scaled_BD[is_labelled_B] ** 2).sum(axis=1).mean())

    def fitted(inside_B: npt.NDArray[np.bool_]) -> LogisticRegression:
        return LogisticRegression(C=10, max_iter=300).fit(scaled_BD[inside_B], label_B[inside_B])

    def accuracy(model: LogisticRegression) -> float:
        return float(model.score(scaled_BD[is_test_B], label_B[is_test_B]))

    start = fitted(is_labelled_B)
    pool = np.flatnonzero(is_pool_B)
    probabilities_BC = start.predict_proba(scaled_BD[pool]).astype(np.float32)
    trust_B = probabilities_BC.max(axis=1)
    orders = (
        first_of_sources(generator.permutation(len(pool)), source_B[pool], number),
        first_of_sources(np.argsort(trust_B), source_B[pool], number),
        most_informative(probabilities_BC, trust_B, None, source_B[pool], number),
        most_informative(probabilities_BC, trust_B, means_BD[pool], source_B[pool], number),
    )
    after = []
    for chosen in orders:
        inside_B = is_labelled_B.copy()
        inside_B[pool[chosen]] = True
        after.append(accuracy(fitted(inside_B)))
    return accuracy(start), after


def first_of_sources(order: npt.NDArray[np.int64], source_B: npt.NDArray[Any], number: int) -> list[int]:
    """The first `number` videos of an order, one per source."""
    _, first = np.unique(source_B[order], return_index=True)
    return [int(order[index]) for index in np.sort(first)[:number]]


if __name__ == "__main__":
    main()
