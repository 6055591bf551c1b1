"""Shares of the classes in an archive without labels, from calibrated class probabilities.

Maximum likelihood by expectation maximisation (Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446).
It assumes that only the shares of the classes differ from calibration, not the videos within a class.

Shape suffixes: B videos, C classes, G sources (recordings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty.geometry import Floats

MAX_ITERATIONS = 200
"""Largest number of steps of the expectation maximisation."""

LEAST_CHANGE = 1e-5
"""Change of every share below which the expectation maximisation ends."""

NUM_DRAWS = 200
"""Number of bootstrap samples of the sources."""

LEAST_SHARE = 1e-6
"""Smallest share of a class; a class of share 0 could never come back."""


@dataclass(frozen=True, kw_only=True)
class ClassShares:
    """Estimated shares of the classes in an archive, with 95 % intervals."""

    estimated_C: Floats
    low_C: Floats
    high_C: Floats


def class_shares(probabilities_BC: Floats, prior_C: Floats, weights_B: Floats | None = None) -> Floats:
    """The shares of the classes that make the videos most likely, as an array [C] with sum 1.

    `probabilities_BC` are calibrated for an archive in which the classes have the shares `prior_C`. `weights_B` says
    how often each video counts (default: once).
    """
    prior_C = np.maximum(prior_C, LEAST_SHARE)
    prior_C = prior_C / prior_C.sum()
    weights_B = np.ones(len(probabilities_BC)) if weights_B is None else weights_B
    likelihood_BC = probabilities_BC / prior_C
    shares_C: Floats = prior_C
    for _ in range(MAX_ITERATIONS):
        joint_BC = likelihood_BC * shares_C
        posterior_BC = joint_BC / np.maximum(joint_BC.sum(axis=1, keepdims=True), 1e-300)
        found_C = np.maximum(weights_B @ posterior_BC / weights_B.sum(), LEAST_SHARE)
        found_C = found_C / found_C.sum()
        change = float(np.abs(found_C - shares_C).max())
        shares_C = found_C
        if change < LEAST_CHANGE:
            break
    return shares_C


def shares_with_intervals(probabilities_BC: Floats, prior_C: Floats, groups: Sequence[str]) -> ClassShares:
    """`class_shares` with 95 % percentile intervals from a bootstrap over sources (`groups`: source of each video)."""
    source_B: npt.NDArray[np.int64] = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
    num_sources = int(source_B.max()) + 1
    generator = np.random.default_rng(0)
    draws = np.stack(
        [
            class_shares(
                probabilities_BC,
                prior_C,
                np.bincount(generator.integers(0, num_sources, num_sources), minlength=num_sources)[source_B] + 0.0,
            )
            for _ in range(NUM_DRAWS)
        ]
    )
    low_C, high_C = np.quantile(draws, (0.025, 0.975), axis=0)
    return ClassShares(estimated_C=class_shares(probabilities_BC, prior_C), low_C=low_C, high_C=high_C)
