"""How often 95 % intervals of an accuracy hold the truth, by the number of sources and what they have in common.

    python benchmarks/interval_coverage.py [--draws 2000]

Each draw is a test split. A video copies its source's answer with a probability whose square is the correlation within
the source; the accuracy is that of the world's videos. Beside the intervals of `vidclf/metrics/intervals.py` stand
the percentile bootstrap over sources, and Wilson's interval by videos (scipy).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from vidclf.metrics.intervals import Interval, SourceIntervals

FEW_LARGE = (3, 3, 3, 3, 3, 3, 3, 60)
WORLDS: dict[str, tuple[float, tuple[int, ...]]] = {
    "each video a source": (0.0, (1,)),
    "10 per source, independent": (0.0, (10,)),
    "10 per source, correlation 0.5": (0.5, (10,)),
    "10 per source, correlation 0.9": (0.9, (10,)),
    "few large sources, correlation 0.5": (0.5, FEW_LARGE),
}
ACCURACIES = (0.7, 0.9)
NUM_SOURCES = (2, 5, 8, 15, 30, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print(f"{draws} draws a row, 95 % intervals\n")
    print("| world | accuracy | sources | ours covers, width | percentile bootstrap over sources | Wilson by videos |")
    print("|---|---|---|---|---|---|")
    for name, (correlation, sizes) in WORLDS.items():
        for accuracy in ACCURACIES:
            for num_sources in NUM_SOURCES:
                generator = np.random.default_rng(num_sources)
                found: dict[str, list[Interval | None]] = {"ours": [], "bootstrap": [], "wilson": []}
                for _ in range(draws):
                    source_B, correct_B = draw(correlation, sizes, accuracy, num_sources, generator)
                    found["ours"].append(SourceIntervals(source_B.tolist()).share(correct_B))
                    found["bootstrap"].append(bootstrap(source_B, correct_B, generator))
                    wilson = binomtest(int(correct_B.sum()), len(correct_B)).proportion_ci(method="wilson")
                    found["wilson"].append((wilson.low, wilson.high))
                cells = [covered(intervals, accuracy) for intervals in found.values()]
                print(f"| {name} | {accuracy} | {num_sources} | {' | '.join(cells)} |", flush=True)


def draw(
    correlation: float, sizes: tuple[int, ...], accuracy: float, num_sources: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    source_B = np.repeat(np.arange(num_sources), generator.choice(sizes, num_sources))
    copies_B = generator.uniform(size=len(source_B)) < correlation**0.5
    own_B = generator.uniform(size=len(source_B)) < accuracy
    of_source_G = generator.uniform(size=num_sources) < accuracy
    return source_B, np.where(copies_B, of_source_G[source_B], own_B)


def bootstrap(
    source_B: npt.NDArray[np.int64], correct_B: npt.NDArray[np.bool_], generator: np.random.Generator
) -> Interval:
    num_sources = int(source_B.max()) + 1
    right_G = np.bincount(source_B, weights=correct_B, minlength=num_sources)
    num_G = np.bincount(source_B, minlength=num_sources)
    drawn_RG = generator.integers(num_sources, size=(500, num_sources))
    low, high = np.percentile(right_G[drawn_RG].sum(axis=1) / num_G[drawn_RG].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def covered(intervals: list[Any], accuracy: float) -> str:
    given = [interval for interval in intervals if interval is not None]
    if not given:
        return "none given"
    share = np.mean([low <= accuracy <= high for low, high in given])
    return f"{share:.3f}, {np.mean([high - low for low, high in given]):.2f}"


if __name__ == "__main__":
    main()
