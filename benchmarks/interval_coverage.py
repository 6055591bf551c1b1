"""Coverage of confidence intervals, in a simulation: how often a 95 % interval contains the true accuracy.

    python benchmarks/interval_coverage.py [--draws 2000]

Each draw simulates the results on one test split. Videos of one source (recording) are right or wrong together more
often than by chance. To get this correlation, a video copies the result of its source with a probability p, otherwise
it has a result of its own; p² is the correlation between two videos of a source. The true accuracy is known.

One row per world (sizes of the sources and correlation), accuracy and number of sources. Each of the last three columns
has the share of intervals that contain the true accuracy (0.95 is wanted) and the mean width of the intervals:

- vidclf: the intervals of `vidclf/metrics/intervals.py`, which count sources; "none given": it has too few sources;
- percentile bootstrap over sources: percentiles of the accuracy over 500 resamples of the sources;
- Wilson by videos: interval of Wilson, computed by scipy as if the videos were independent.
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
    "one video per source": (0.0, (1,)),
    "10 per source, independent": (0.0, (10,)),
    "10 per source, correlation 0.5": (0.5, (10,)),
    "10 per source, correlation 0.9": (0.9, (10,)),
    "few large sources, correlation 0.5": (0.5, FEW_LARGE),
}
ACCURACIES = (0.7, 0.9)
NUM_SOURCES = (2, 5, 8, 15, 30, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="number of simulated test splits per row")
    draws = parser.parse_args().draws
    print(f"{draws} draws per row, intervals of 95 %\n")
    print("| world | accuracy | sources | vidclf | percentile bootstrap over sources | Wilson by videos |")
    print("|---|---|---|---|---|---|")
    for name, (correlation, sizes) in WORLDS.items():
        for accuracy in ACCURACIES:
            for num_sources in NUM_SOURCES:
                generator = np.random.default_rng(num_sources)
                intervals_by_method: dict[str, list[Interval | None]] = {"vidclf": [], "bootstrap": [], "wilson": []}
                for _ in range(draws):
                    source_B, correct_B = draw(correlation, sizes, accuracy, num_sources, generator)
                    intervals_by_method["vidclf"].append(SourceIntervals(source_B.tolist()).share(correct_B))
                    intervals_by_method["bootstrap"].append(bootstrap(source_B, correct_B, generator))
                    wilson = binomtest(int(correct_B.sum()), len(correct_B)).proportion_ci(method="wilson")
                    intervals_by_method["wilson"].append((wilson.low, wilson.high))
                cells = [covered(intervals, accuracy) for intervals in intervals_by_method.values()]
                print(f"| {name} | {accuracy} | {num_sources} | {' | '.join(cells)} |", flush=True)


def draw(
    correlation: float, sizes: tuple[int, ...], accuracy: float, num_sources: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """One simulated test split: two arrays with the number of the source and whether the result is right, per video."""
    source_B = np.repeat(np.arange(num_sources), generator.choice(sizes, num_sources))
    copies_B = generator.uniform(size=len(source_B)) < correlation**0.5
    video_correct_B = generator.uniform(size=len(source_B)) < accuracy
    source_correct_G = generator.uniform(size=num_sources) < accuracy
    return source_B, np.where(copies_B, source_correct_G[source_B], video_correct_B)


def bootstrap(
    source_B: npt.NDArray[np.int64], correct_B: npt.NDArray[np.bool_], generator: np.random.Generator
) -> Interval:
    """Percentile interval (2.5 % to 97.5 %) of the accuracy over 500 resamples of the sources."""
    num_sources = int(source_B.max()) + 1
    num_correct_G = np.bincount(source_B, weights=correct_B, minlength=num_sources)
    num_videos_G = np.bincount(source_B, minlength=num_sources)
    drawn_RG = generator.integers(num_sources, size=(500, num_sources))
    low, high = np.percentile(num_correct_G[drawn_RG].sum(axis=1) / num_videos_G[drawn_RG].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def covered(intervals: list[Any], accuracy: float) -> str:
    """Cell of the table: share of `intervals` that contain `accuracy`, and their mean width."""
    computed = [interval for interval in intervals if interval is not None]
    if not computed:
        return "none given"
    share = np.mean([low <= accuracy <= high for low, high in computed])
    return f"{share:.3f}, {np.mean([high - low for low, high in computed]):.2f}"


if __name__ == "__main__":
    main()
