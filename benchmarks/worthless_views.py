"""How often test-time views that are worth nothing get a weight, by the rule of `ensemble/views.py` and an older one.

    python benchmarks/worthless_views.py [--draws 2000]

Simulates validation splits. Logits of the true class vary between sources and between videos of a source. A view
changes each logit at random, in part in the same way for all videos of a source. It is shifted so that its average gain
in log-likelihood is 0 nats (a worthless view) or `GAIN` nats (a useful one). Every ensemble has three views besides the
original. Columns:

- any worthless view: share of ensembles that let in at least one of three worthless views, which must be at most 5 %;
- worthless views, useful views: share of all such views that are let in.

In each column the second number is that of earlier versions, whose rule was a gain above one standard error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit

from vidclf.ensemble.views import VIEWS, fit_weights

GAIN = 0.02
"""Average gain of a useful view, in nats per video."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A way in which validation videos and their views may vary."""

    num_sources: int
    videos_per_source: int
    shared: float
    """share of the variance of a view's change that all videos of a source have in common"""
    accuracy_logit: float = 2.5
    """mean logit of the true class"""
    change: float = 1.0
    """standard deviation of a view's change of the logit"""


def draw(
    world: World, num_views: int, shift: float, generator: np.random.Generator
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Probabilities of the true class [1 + views, videos], for one validation split, and the source of each video."""
    source_B = np.repeat(np.arange(world.num_sources), world.videos_per_source)
    num_videos = len(source_B)
    original_B = (
        world.accuracy_logit
        + 1.5 * generator.normal(size=world.num_sources)[source_B]
        + 1.5 * generator.normal(size=num_videos)
    )
    common_VB = generator.normal(size=(num_views, world.num_sources))[:, source_B]
    own_VB = generator.normal(size=(num_views, num_videos))
    change_VB = world.change * (world.shared**0.5 * common_VB + (1 - world.shared) ** 0.5 * own_VB)
    true_VB = expit(np.vstack([original_B, original_B + change_VB + shift]))
    return true_VB, [str(source) for source in source_B]


def shift_for(gain: float, world: World) -> float:
    """Shift of a view's logits with which its average gain, mixed half and half with the original, is `gain` nats."""
    many = World(num_sources=200_000, videos_per_source=1, shared=1.0, change=world.change)

    def excess(shift: float) -> float:
        original_B, view_B = draw(many, 1, shift, np.random.default_rng(1))[0]
        return float(np.log((original_B + view_B) / (2 * original_B)).mean()) - gain

    return float(brentq(excess, -5, 5, xtol=1e-4))


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares of simulated ensembles and views, each by today's rule and by one standard error."""

    any_view: tuple[float, float]
    """share of ensembles in which at least one view is let in"""
    views: tuple[float, float]
    """share of views that are let in"""


def rates(world: World, gain: float, draws: int, seed: int = 0) -> Rates:
    """How often views with this average gain are let in, in `draws` ensembles."""
    generator, shift = np.random.default_rng(seed), shift_for(gain, world)
    is_in = np.zeros((draws, 2, len(VIEWS) - 1), bool)
    for index in range(draws):
        true_VB, groups = draw(world, len(VIEWS) - 1, shift, generator)
        probabilities_VBC = np.stack([true_VB, 1 - true_VB], axis=2)
        fitted = fit_weights(probabilities_VBC, np.zeros(len(groups), int), groups)[1:]
        is_in[index, 0] = [view.weight > 0 for view in fitted]
        is_in[index, 1] = [view.gain > (view.gain_se or 0.0) for view in fitted]
    any_view, views = is_in.any(axis=2).mean(axis=0), is_in.mean(axis=(0, 2))
    return Rates(any_view=(float(any_view[0]), float(any_view[1])), views=(float(views[0]), float(views[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="ensembles per row and kind of view")
    draws = parser.parse_args().draws
    print(
        "| sources | videos per source | any worthless view | worthless views | useful views |\n|---|---|---|---|---|"
    )
    for num_sources in (3, 5, 10, 20, 40, 100):
        for videos_per_source, shared in ((1, 0.0), (10, 0.5)):
            world = World(num_sources=num_sources, videos_per_source=videos_per_source, shared=shared)
            worthless, useful = (rates(world, gain, draws) for gain in (0.0, GAIN))
            cells = [
                f"{today:.3f}, {before:.3f}" for today, before in (worthless.any_view, worthless.views, useful.views)
            ]
            print(f"| {num_sources} | {videos_per_source} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
