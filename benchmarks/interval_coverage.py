"""Coverage of confidence intervals, in a simulation: how often a 95 % interval contains the true value.

    python benchmarks/interval_coverage.py [--draws 1000]

Each draw simulates the results on one test split. Videos of one source (recording) are right or wrong together more
often than by chance. To get this correlation, a video copies the result of its source with a probability p, otherwise
it has a result of its own; p² is the correlation between two videos of a source. The true accuracy is known.

The first table is about the accuracy of one ensemble. It has one row per world (sizes of the sources and correlation),
accuracy and number of sources. The second table is about the difference in accuracy of two ensembles on the same
videos. Its rows have the share of videos that the second ensemble gains and loses. Each of the other columns has the
share of intervals that contain the true value (0.95 is wanted) and the mean width of the intervals:

- vidclf: the intervals of `vidclf/metrics/intervals.py`, which count sources; "none": there are too few effective
  sources in every draw. If they are too few in some draws, the other draws count;
- percentile bootstrap: percentiles of the accuracy over 500 resamples of the sources;
- Wilson by videos: interval of Wilson, as if the videos were independent;
- Student: Student's interval of the difference, over the effective sources.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from scipy import stats

from vidclf.metrics.intervals import MIN_SOURCES, SourceIntervals, of_ratio

Floats = npt.NDArray[np.float64]
"""Array [draws, sources], or [draws, 2] with the lower and the upper ends of intervals (NaN if there is none)."""

FEW_LARGE = (3, 3, 3, 3, 3, 3, 3, 60)
WORLDS: dict[str, tuple[float, tuple[int, ...]]] = {
    "one video per source": (0.0, (1,)),
    "10 per source, independent": (0.0, (10,)),
    "10 per source, correlation 0.5": (0.5, (10,)),
    "10 per source, correlation 0.9": (0.9, (10,)),
    "few large sources, correlation 0.5": (0.5, FEW_LARGE),
    "few large sources, correlation 0.9": (0.9, FEW_LARGE),
}
ACCURACIES = (0.7, 0.9, 0.97)
DIFFERENCES = ((0.05, 0.05), (0.02, 0.0), (0.15, 0.1))
"""Shares of videos that the second ensemble gains and loses."""
NUM_SOURCES = (2, 5, 8, 20, 60, 100, 200)
NUM_RESAMPLES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="number of simulated test splits per row")
    draws = parser.parse_args().draws
    print(f"{draws} draws per row, intervals of 95 %\n")
    print("| world | accuracy | sources | vidclf | percentile bootstrap over sources | Wilson by videos |")
    print("|---|---|---|---|---|---|")
    for name, (correlation, sizes) in WORLDS.items():
        for accuracy in ACCURACIES:
            for num_sources in NUM_SOURCES:
                generator = np.random.default_rng(num_sources)
                num_DG = generator.choice(sizes, (draws, num_sources)).astype(float)
                right_DG, _ = draw(num_DG, correlation, accuracy, 0.0, generator)
                methods = (by_sources(right_DG, num_DG), bootstrap(right_DG, num_DG), wilson(right_DG, num_DG))
                cells = " | ".join(covered(ends_D2, accuracy) for ends_D2 in methods)
                print(f"| {name} | {accuracy} | {num_sources} | {cells} |", flush=True)
    print("\n| world | gained, lost | sources | vidclf | Student |\n|---|---|---|---|---|")
    for name, (correlation, sizes) in WORLDS.items():
        for gained, lost in DIFFERENCES:
            for num_sources in NUM_SOURCES[1:-1]:
                generator = np.random.default_rng(num_sources)
                num_DG = generator.choice(sizes, (draws, num_sources)).astype(float)
                gained_DG, lost_DG = draw(num_DG, correlation, gained, lost, generator)
                both = (differences(gained_DG, lost_DG, num_DG), student(gained_DG - lost_DG, num_DG))
                cells = " | ".join(covered(ends_D2, gained - lost) for ends_D2 in both)
                print(f"| {name} | {gained}, {lost} | {num_sources} | {cells} |", flush=True)


def draw(
    num_DG: Floats, correlation: float, first: float, second: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Numbers of videos with the first and with the second outcome in each source, which have the probabilities `first`
    and `second`."""
    copies_DG = generator.binomial(num_DG.astype(int), correlation**0.5)
    own_DG = num_DG.astype(int) - copies_DG
    first_DG = generator.binomial(own_DG, first)
    second_DG = generator.binomial(own_DG - first_DG, second / (1 - first))
    source_DG = generator.uniform(size=num_DG.shape)
    first_DG = first_DG + copies_DG * (source_DG < first)
    second_DG = second_DG + copies_DG * ((source_DG >= first) & (source_DG < first + second))
    return first_DG.astype(float), second_DG.astype(float)


def by_sources(right_DG: Floats, num_DG: Floats) -> Floats:
    """Intervals of vidclf."""
    intervals = [of_ratio(right_G, num_G) for right_G, num_G in zip(right_DG, num_DG, strict=True)]
    return np.array([interval or (np.nan, np.nan) for interval in intervals])


def differences(gained_DG: Floats, lost_DG: Floats, num_DG: Floats) -> Floats:
    """Intervals of vidclf for a difference."""
    found = []
    for gained_G, lost_G, num_G in zip(gained_DG, lost_DG, num_DG, strict=True):
        source_B = np.repeat(np.arange(len(num_G)), num_G.astype(int))
        place_B = np.concatenate([np.arange(num) for num in num_G])
        gains_B = place_B < gained_G[source_B]
        loses_B = ~gains_B & (place_B < (gained_G + lost_G)[source_B])
        sources = SourceIntervals([str(source) for source in source_B])
        found.append(sources.difference(gains_B, loses_B) or (np.nan, np.nan))
    return np.array(found)


def bootstrap(right_DG: Floats, num_DG: Floats) -> Floats:
    """Percentile intervals (2.5 % to 97.5 %) of the accuracy over resamples of the sources."""
    num_sources = num_DG.shape[1]
    weights_GR = np.random.default_rng(0).multinomial(num_sources, np.full(num_sources, 1 / num_sources), NUM_RESAMPLES)
    shares_DR = (right_DG @ weights_GR.T) / (num_DG @ weights_GR.T)
    return np.percentile(shares_DR, [2.5, 97.5], axis=1).T


def wilson(right_DG: Floats, num_DG: Floats) -> Floats:
    """Intervals of Wilson (1927), as if the videos were independent."""
    total_D, z = num_DG.sum(axis=1), stats.norm.ppf(0.975)
    share_D = right_DG.sum(axis=1) / total_D
    middle_D = (share_D + z**2 / (2 * total_D)) / (1 + z**2 / total_D)
    half_D = z / (1 + z**2 / total_D) * np.sqrt(share_D * (1 - share_D) / total_D + z**2 / (4 * total_D**2))
    return np.stack([middle_D - half_D, middle_D + half_D], axis=1)


def student(gain_DG: Floats, num_DG: Floats) -> Floats:
    """Student's intervals of a difference in accuracy, with the effective number of sources."""
    total_D1, num_sources = num_DG.sum(axis=1, keepdims=True), num_DG.shape[1]
    effective_D = total_D1[:, 0] ** 2 / (num_DG**2).sum(axis=1)
    gain_D1 = gain_DG.sum(axis=1, keepdims=True) / total_D1
    influence_DG = (gain_DG - gain_D1 * num_DG) / total_D1
    error_D = np.sqrt(num_sources / (num_sources - 1) * (influence_DG**2).sum(axis=1))
    half_D = error_D * stats.t.ppf(0.975, np.maximum(effective_D - 1, 1))
    half_D[np.round(effective_D) < MIN_SOURCES] = np.nan
    return np.stack([gain_D1[:, 0] - half_D, gain_D1[:, 0] + half_D], axis=1)


def covered(ends_D2: Floats, value: float) -> str:
    """Cell of the table: share of the intervals that contain `value`, and their mean width."""
    given_D2 = ends_D2[~np.isnan(ends_D2[:, 0])]
    if not len(given_D2):
        return "none"
    contains_D = (given_D2[:, 0] <= value + 1e-12) & (value - 1e-12 <= given_D2[:, 1])
    return f"{contains_D.mean():.3f}, {(given_D2[:, 1] - given_D2[:, 0]).mean():.2f}"


if __name__ == "__main__":
    main()
