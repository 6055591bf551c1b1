"""The minimum of the focal loss with label smoothing, compared with a numerical search and with known limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from vidclf.training.loss import focal_loss
from vidclf.uncertainty.focal_optimum import optimal_temperature
from vidclf.uncertainty.temperature import tempered


def test_the_optimum_of_four_classes_by_default() -> None:
    # Minimised numerically: 0.70315 for the true class and 0.09895 for each other one. The targets are 0.925 and 0.025.
    expected = np.log(0.70315 / 0.09895) / np.log(0.925 / 0.025)
    assert expected == pytest.approx(0.5431, abs=1e-4)
    assert optimal_temperature(2.0, 0.1, 4) == pytest.approx(expected, abs=1e-4)
    corrected_C = tempered(np.array([[0.70315, *[0.09895] * 3]]), optimal_temperature(2.0, 0.1, 4))[0]
    assert corrected_C.tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025], abs=1e-4)


@pytest.mark.parametrize("num_classes", [2, 4, 46])
@pytest.mark.parametrize(("gamma", "smoothing"), [(0.5, 0.1), (1.0, 0.2), (2.0, 0.1), (2.0, 0.01), (3.0, 0.3)])
def test_the_temperature_belongs_to_the_minimum_of_the_loss_of_training(
    num_classes: int, gamma: float, smoothing: float
) -> None:
    def loss(log_odds: float) -> float:
        logits_BC = torch.zeros(1, num_classes, dtype=torch.float64)
        logits_BC[0, 0] = log_odds
        return focal_loss(logits_BC, torch.tensor([0]), gamma=gamma, smoothing=smoothing).item()

    log_odds = minimize_scalar(loss, bounds=(0, 20), method="bounded", options={"xatol": 1e-9}).x
    target = np.log((1 - smoothing + smoothing / num_classes) / (smoothing / num_classes))
    assert optimal_temperature(gamma, smoothing, num_classes) == pytest.approx(log_odds / target, abs=1e-5)


def test_cross_entropy_needs_no_correction() -> None:
    assert optimal_temperature(0.0, 0.1, 4) == optimal_temperature(0.0, 0.0, 4) == 1.0


def test_without_smoothing_the_temperature_is_the_limit() -> None:
    assert optimal_temperature(2.0, 0.0, 4) == pytest.approx(1 / 3)
    assert optimal_temperature(2.0, 1e-200, 4) == pytest.approx(1 / 3, abs=2e-3)


@pytest.mark.parametrize(("gamma", "smoothing"), [(100.0, 0.01), (1e-9, 0.1), (6.0, 0.9), (2.0, 0.999)])
def test_unusual_settings_have_a_temperature(gamma: float, smoothing: float) -> None:
    for num_classes in (2, 46, 10_000):
        assert 0 < optimal_temperature(gamma, smoothing, num_classes) < 1.3
