"""Simulation of trust thresholds: how often a certified risk is exceeded, and how often a risk can be certified.

    python benchmarks/risk_simulation.py [--draws 400] [--risk 0.05]

A trust threshold is the lowest trust score at which a label is accepted. vidclf certifies a risk (share of wrong labels
among accepted videos) if validation data show with confidence `CONFIDENCE_LEVEL` that the error stays below it. Here
the validation data come from simulated worlds (distributions of videos) whose true error is known.

Each draw simulates one validation split. A video has a trust score and a right or wrong label, and belongs to a source
(a recording; its videos resemble each other). A video copies score and outcome of its source with a probability whose
square is the correlation within the source. A draw is a failure if a threshold is certified although the true error of
the world among the videos that the threshold accepts is above the risk. At most the share 1 - `CONFIDENCE_LEVEL` of the
draws should be failures.

In ordinary worlds the error falls as the trust score rises. In worlds named "flat" it is 1.1 times the risk at every
score, so every certificate is a failure. The cascade (early exit) looks at a video up to three times, and each look has
its own error rate.

The output is a table with one row per world and number of sources. All columns but the first two are shares, of all
draws unless stated otherwise:

- failures, certified, estimated: the full look alone; the last two are the draws whose threshold is certified, or only
  estimated without a certificate;
- accepted of the most possible: videos accepted by certified thresholds, relative to the largest share of videos that a
  threshold can accept in this world without exceeding the risk (mean over the certified draws);
- cascade: failures, certified, decided early: the same for the thresholds of all three looks together, and the share of
  videos that an early look decides (mean over the certified draws);
- by videos: failures, certified: a binomial test that treats videos as independent and ignores sources, for comparison.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from vidclf.schema import Look
from vidclf.uncertainty.early_exit import EARLY_LOOKS, ValidationScores, outcome, stage_thresholds
from vidclf.uncertainty.risk_threshold import CERTIFIED, CONFIDENCE_LEVEL, ESTIMATED, THRESHOLDS, sources_to_certify

LOOKS = (*EARLY_LOOKS, Look.FULL)
FACTOR = {"keyframes": 1.6, "subset": 1.2, Look.FULL: 1.0}
"""Error rate of each look, as a multiple of 1 - trust score."""
NUM_TRUTH = 200_000
"""Number of videos (approximately) that are simulated to compute the true error of a world."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A distribution of sources (recordings) from which validation splits are drawn."""

    name: str
    correlation: float
    """correlation of the videos within a source"""
    sizes: tuple[int, ...] = (10,)
    """possible numbers of videos per source, all equally probable"""
    is_flat: bool = False
    """whether the error is 1.1 times the risk at every trust score"""
    error_of_large: float = 1.0
    """factor of the error of the sources of the largest size"""
    error_of_small: float = 1.0
    """factor of the error of all other sources"""

    def draw(self, num_sources: int, risk: float, generator: np.random.Generator) -> dict[str, ValidationScores]:
        """Draw a validation split; return trust scores and outcomes of its videos at each look, by name of the look."""
        sizes_G = generator.choice(self.sizes, num_sources)
        source_B = np.repeat(np.arange(num_sources), sizes_G)
        copies_B = generator.uniform(size=len(source_B)) < self.correlation**0.5

        def of_source(values_G: npt.NDArray[Any], values_B: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """Value of the source for videos that copy it, else the video's own value."""
            return np.where(copies_B, values_G[source_B], values_B)

        # How hard a video is (`ease_B`) is the same for all looks; each look adds noise of its own to the score.
        ease_B = of_source(generator.uniform(size=num_sources), generator.uniform(size=len(source_B)))
        luck_B = of_source(generator.uniform(size=num_sources), generator.uniform(size=len(source_B)))
        looks: dict[str, ValidationScores] = {}
        worse_B = np.where(sizes_G[source_B] == max(self.sizes), self.error_of_large, self.error_of_small)
        for name in LOOKS:
            noise_B = of_source(generator.uniform(size=num_sources), generator.uniform(size=len(source_B)))
            trust_B = np.clip(0.8 * ease_B + 0.2 * noise_B, 0, 1) ** (1 / 6)
            error_B = (np.full(len(source_B), 1.1 * risk) if self.is_flat else FACTOR[name] * (1 - trust_B)) * worse_B
            looks[name] = ValidationScores(
                trust_B=trust_B.astype(np.float32),
                correct_B=luck_B >= error_B,
                ood_B=np.zeros(len(source_B), np.float32),
                source_B=source_B,
            )
        return looks


FEW_LARGE = (3, 3, 3, 3, 3, 3, 3, 60)
WORLDS = [
    World(name=f"{name}{', flat' if is_flat else ''}", is_flat=is_flat, **values)
    for is_flat in (False, True)
    for name, values in (
        ("independent, 10 per source", {"correlation": 0.0}),
        ("10 per source, correlation 0.5", {"correlation": 0.5}),
        ("10 per source, correlation 0.9", {"correlation": 0.9}),
        ("few large sources, correlation 0.5", {"correlation": 0.5, "sizes": FEW_LARGE}),
        ("few large sources, twice as often wrong", {"correlation": 0.5, "sizes": FEW_LARGE, "error_of_large": 2.0}),
        (
            "few large sources, which alone are wrong",
            {"correlation": 0.9, "sizes": FEW_LARGE, "error_of_large": 81 / 60, "error_of_small": 0.0},
        ),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400, help="simulated validation splits per row")
    parser.add_argument("--risk", type=float, default=0.05, help="allowed share of wrong labels among accepted videos")
    parser.add_argument("--sources", default="30,100,300", help="numbers of sources per split, separated by commas")
    arguments = parser.parse_args()
    print(
        f"{arguments.draws} draws per row, risk {arguments.risk:g}, allowed failures {1 - CONFIDENCE_LEVEL:.2f}. "
        f"{sources_to_certify(arguments.risk)} sources without a wrong label are enough for a certificate.\n"
    )
    print(
        "| world | sources | failures | certified | estimated | accepted of the most possible | cascade: failures | "
        "cascade: certified | cascade: decided early | by videos: failures | by videos: certified |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for world in WORLDS:
        truth = world.draw(NUM_TRUTH // max(1, sum(world.sizes) // len(world.sizes)), arguments.risk, seeded(0))
        for num_sources in map(int, arguments.sources.split(",")):
            print(f"| {world.name} | {num_sources} | {row(world, truth, num_sources, arguments)} |", flush=True)


def row(world: World, truth: dict[str, ValidationScores], num_sources: int, arguments: argparse.Namespace) -> str:
    """Cells of one table row, from `arguments.draws` validation splits; `truth` is a large draw of the same world."""
    risk, at = arguments.risk, full_look(truth[Look.FULL])
    early: dict[str, ValidationScores] = {name: truth[name] for name in EARLY_LOOKS}
    possible = [share for error, share in map(at, THRESHOLDS.tolist()) if error <= risk]
    counts = dict.fromkeys(("fails", "certified", "estimated", "cascade fails", "cascade", "naive fails", "naive"), 0)
    shares, decided = [], []
    for number in range(arguments.draws):
        validation = world.draw(num_sources, risk, seeded(number + 1))
        alone = validation[Look.FULL].threshold(risk)
        counts["estimated"] += alone.basis == ESTIMATED
        if alone.basis == CERTIFIED:
            error, share = at(alone.threshold)
            counts["certified"] += 1
            counts["fails"] += error > risk
            if not world.is_flat:  # in a flat world no threshold should be certified
                shares.append(share / max(possible) if possible else 0.0)
        joint = stage_thresholds({name: validation[name] for name in EARLY_LOOKS}, validation[Look.FULL], risk)
        if joint.basis == CERTIFIED:
            cascade = outcome(early, truth[Look.FULL], joint)
            counts["cascade"] += 1
            counts["cascade fails"] += cascade.error_among_accepted > risk
            decided.append(1 - cascade.share[Look.FULL])
        naive = by_videos(validation[Look.FULL], risk)
        if naive is not None:
            counts["naive"] += 1
            counts["naive fails"] += at(naive)[0] > risk
    share = {name: f"{count / arguments.draws:.3f}" for name, count in counts.items()}
    cells = [share["fails"], share["certified"], share["estimated"], mean(shares)]
    cells += [share["cascade fails"], share["cascade"], mean(decided), share["naive fails"], share["naive"]]
    return " | ".join(cells)


def full_look(full: ValidationScores) -> Any:
    """Function that gives, for a trust threshold, the share of wrong labels among the accepted videos and the share of
    videos that are accepted."""

    @lru_cache
    def at(threshold: float) -> tuple[float, float]:
        """Share of wrong labels among the accepted videos, and share of accepted videos."""
        accepted_B = full.accepts(threshold)
        return float((~full.correct_B[accepted_B]).mean()) if accepted_B.any() else 0.0, float(accepted_B.mean())

    return at


def by_videos(validation: ValidationScores, risk: float) -> float | None:
    """Lowest trust threshold certified by a binomial test that treats videos as independent; None if there is none."""
    thresholds = THRESHOLDS[::-1]
    accepted_NB = validation.trust_B >= thresholds.astype(np.float32)[:, None]
    count_N, errors_N = accepted_NB.sum(axis=1), (accepted_NB & ~validation.correct_B).sum(axis=1)
    holds_N = bdtr(errors_N, count_N, risk) <= 1 - CONFIDENCE_LEVEL
    start = int(np.argmax((1 - risk) ** count_N <= 1 - CONFIDENCE_LEVEL))
    num_held = int(np.argmin([*holds_N[start:], False]))
    return float(thresholds[start + num_held - 1]) if num_held else None


def mean(values: list[float]) -> str:
    """Mean as text with two decimals; a dash if there are no values."""
    return f"{np.mean(values):.2f}" if values else "–"


def seeded(number: int) -> np.random.Generator:
    """Random generator with the seed `number`."""
    return np.random.default_rng(number)


if __name__ == "__main__":
    main()
