"""Pairs of videos with at least a given cosine: all of them are found, also where products are rounded first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vidclf.features import near_pairs

TILE = 16


def units(num_videos: int = 60, dim: int = 32) -> npt.NDArray[np.float32]:
    """Random vectors of length 1, of which 7, 23 and 41 are nearly those of 3, 22 and 3."""
    rows_ND = np.random.default_rng(0).standard_normal((num_videos, dim)).astype(np.float32)
    for copy, original in ((7, 3), (23, 22), (41, 3)):
        rows_ND[copy] = rows_ND[original] + 0.05 * rows_ND[copy]
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def found(unit_ND: npt.NDArray[np.float32], cosine: float) -> list[tuple[int, int]]:
    pairs = near_pairs.near_pairs(unit_ND, cosine, TILE)
    return sorted((int(i), int(j)) for first, second, _ in pairs for i, j in zip(first, second, strict=True))


@pytest.fixture(params=[False, True], ids=["float32", "rounded"])
def is_rounded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "_is_worth_rounding", lambda unit_ND: request.param)


@pytest.mark.usefixtures("is_rounded")
def test_all_pairs_are_found_once() -> None:
    assert found(units(), 0.98) == [(3, 7), (3, 41), (7, 41), (22, 23)]


@pytest.mark.usefixtures("is_rounded")
def test_a_threshold_between_two_cosines_divides_them() -> None:
    # Cosines 1 - 1e-3 and 1 - 3e-3, whose difference bfloat16 cannot show.
    angles = np.arccos([1.0, 1 - 1e-3, -(1 - 3e-3)])
    unit_ND = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    unit_ND[2, 0] = -unit_ND[2, 0]
    assert found(unit_ND, 1 - 2e-3) == [(0, 1), (1, 2)]
    assert found(unit_ND, 1 - 4e-3) == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.usefixtures("is_rounded")
def test_the_cosines_are_not_rounded() -> None:
    unit_ND = units()
    for first, second, cosines in near_pairs.near_pairs(unit_ND, 0.98, TILE):
        exact = np.einsum("nd,nd->n", unit_ND[first], unit_ND[second])
        np.testing.assert_allclose(cosines, exact, rtol=1e-6)


def test_the_bound_of_the_rounding() -> None:
    assert near_pairs.rounding_error(1280) == pytest.approx(0.011917, abs=1e-6)
    # The largest error of all: every feature is just below the middle between two numbers of bfloat16.
    value = (1 + 2.0**-8 - 2.0**-20) * 2.0**-5
    unit_ND = np.full((1, 1024), value, np.float32)
    unit_ND /= np.linalg.norm(unit_ND)
    rounded = torch.from_numpy(unit_ND).bfloat16()
    assert abs(float((rounded @ rounded.T)[0, 0]) - 1) <= near_pairs.rounding_error(1024)


def test_few_videos_are_not_rounded() -> None:
    assert not near_pairs._is_worth_rounding(units())


def test_clusters_are_joined_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = np.arange(60)
    clusters[[7, 41, 23]] = 3, 3, 22
    assert near_pairs.clusters_of(units(), 0.98).tolist() == clusters.tolist()
    monkeypatch.setattr(near_pairs, "MAX_PAIRS_IN_MEMORY", 1)
    assert near_pairs.clusters_of(units(), 0.98).tolist() == clusters.tolist()
