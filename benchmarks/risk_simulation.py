"""How often a certified risk is exceeded, and how often one is certified, in worlds whose risk is known.

    python benchmarks/risk_simulation.py [--draws 400] [--risk 0.05]

Each draw is a validation split. Videos have a trust score and are right or wrong; a video copies its source's score
and answer with a probability whose square is the correlation within the source. A draw fails where a threshold is
certified from which on the world's error among accepted videos is above the risk. The stated share of failures is
1 - `CONFIDENCE_LEVEL`. By videos, the binomial test that does not know of sources, is shown beside it.

In `graded` worlds the error falls with the trust score. In `flat` ones it is a tenth above the risk at every score, so
that every certificate is a failure. The cascade has three looks at a video, each sees it with an error of its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from vidclf.schema import Look
from vidclf.uncertainty.early_exit import EARLY_LOOKS, ValidationScores, outcome, stage_thresholds
from vidclf.uncertainty.risk_threshold import CERTIFIED, CONFIDENCE_LEVEL, ESTIMATED, THRESHOLDS, sources_to_certify

LOOKS = (*EARLY_LOOKS, Look.FULL)
FACTOR = {"keyframes": 1.6, "subset": 1.2, Look.FULL: 1.0}
"""How much more often than stated a look is wrong."""
NUM_TRUTH = 200_000
"""Sources that a world's risk is computed from."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Where validation's sources are drawn from."""

    name: str
    correlation: float
    sizes: tuple[int, ...] = (10,)
    """videos of a source, each size as probable"""
    is_flat: bool = False
    large_is_worse: bool = False
    """the error of sources of the largest size is twice as high"""

    def draw(self, num_sources: int, risk: float, generator: np.random.Generator) -> dict[str, ValidationScores]:
        """A validation split, as each look sees it."""
        sizes_G = generator.choice(self.sizes, num_sources)
        source_B = np.repeat(np.arange(num_sources), sizes_G)
        copies_B = generator.uniform(size=len(source_B)) < self.correlation**0.5

        def of_source(values_G: npt.NDArray[Any], values_B: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.where(copies_B, values_G[source_B], values_B)

        # The looks agree on which videos are hard, not on each score.
        ease_B = of_source(generator.uniform(size=num_sources), generator.uniform(size=len(source_B)))
        luck_B = of_source(generator.uniform(size=num_sources), generator.uniform(size=len(source_B)))
        looks = {}
        worse_B = np.where(self.large_is_worse & (sizes_G[source_B] == max(self.sizes)), 2.0, 1.0)
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
        ("few large sources, twice as often wrong", {"correlation": 0.5, "sizes": FEW_LARGE, "large_is_worse": True}),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--risk", type=float, default=0.05)
    parser.add_argument("--sources", default="30,100,300")
    arguments = parser.parse_args()
    print(
        f"{arguments.draws} draws a row, risk {arguments.risk:g}, failures stated: {1 - CONFIDENCE_LEVEL:.2f}; "
        f"{sources_to_certify(arguments.risk)} right sources certify\n"
    )
    print(
        "| world | sources | fails | certified | estimated | accepted of what may be | cascade fails | certified | "
        "decided early | by videos, fails | certified |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for world in WORLDS:
        truth = world.draw(NUM_TRUTH // max(1, sum(world.sizes) // len(world.sizes)), arguments.risk, seeded(0))
        for num_sources in map(int, arguments.sources.split(",")):
            print(f"| {world.name} | {num_sources} | {row(world, truth, num_sources, arguments)} |", flush=True)


def row(world: World, truth: dict[str, ValidationScores], num_sources: int, arguments: argparse.Namespace) -> str:
    risk, full = arguments.risk, truth[Look.FULL]
    early = {name: truth[name] for name in EARLY_LOOKS}
    possible = [share for error, share in map(full_look(full), THRESHOLDS) if error <= risk]
    counts = dict.fromkeys(("fails", "certified", "estimated", "cascade fails", "cascade", "naive fails", "naive"), 0)
    shares, decided = [], []
    for number in range(arguments.draws):
        seen = world.draw(num_sources, risk, seeded(number + 1))
        alone = seen[Look.FULL].threshold(risk)
        counts["estimated"] += alone.basis == ESTIMATED
        if alone.basis == CERTIFIED:
            error, share = full_look(full)(alone.threshold)
            counts["certified"] += 1
            counts["fails"] += error > risk
            shares.append(share / max(possible) if possible else 0.0)
        joint = stage_thresholds({name: seen[name] for name in EARLY_LOOKS}, seen[Look.FULL], risk)
        if joint.basis == CERTIFIED:
            of_all = outcome(early, full, joint)
            counts["cascade"] += 1
            counts["cascade fails"] += of_all.error_among_accepted > risk
            decided.append(1 - of_all.share[Look.FULL])
        naive = by_videos(seen[Look.FULL], risk)
        if naive is not None:
            counts["naive"] += 1
            counts["naive fails"] += full_look(full)(naive)[0] > risk
    share = {name: f"{count / arguments.draws:.3f}" for name, count in counts.items()}
    cells = [share["fails"], share["certified"], share["estimated"], mean(shares)]
    cells += [share["cascade fails"], share["cascade"], mean(decided), share["naive fails"], share["naive"]]
    return " | ".join(cells)


def full_look(full: ValidationScores) -> Any:
    """The world's error among the videos that a threshold accepts, and the share of these."""

    def at(threshold: float) -> tuple[float, float]:
        accepted_B = full.accepts(threshold)
        return float((~full.correct_B[accepted_B]).mean()) if accepted_B.any() else 0.0, float(accepted_B.mean())

    return at


def by_videos(seen: ValidationScores, risk: float) -> float | None:
    """The threshold that a binomial test of the videos certifies."""
    last = None
    for threshold in THRESHOLDS[::-1]:
        accepted_B = seen.accepts(threshold)
        count, errors = int(accepted_B.sum()), int((~seen.correct_B[accepted_B]).sum())
        if (1 - risk) ** count > 1 - CONFIDENCE_LEVEL:
            continue
        if binom.cdf(errors, count, risk) > 1 - CONFIDENCE_LEVEL:
            break
        last = float(threshold)
    return last


def mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "–"


def seeded(number: int) -> np.random.Generator:
    return np.random.default_rng(number)


if __name__ == "__main__":
    main()
