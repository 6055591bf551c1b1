"""Temperature scaling, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.uncertainty.temperature import fit_temperature, tempered


def test_a_temperature_is_a_root_of_the_probabilities() -> None:
    np.testing.assert_allclose(tempered(np.array([[0.8, 0.2], [0.5, 0.5]]), 2.0)[0], [2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(tempered(np.array([[0.8, 0.2]]), 0.5), [[16 / 17, 1 / 17]], rtol=1e-6)
    per_video_B1 = np.array([[1.0], [2.0]])
    np.testing.assert_allclose(tempered(np.array([[0.8, 0.2]] * 2), per_video_B1)[:, 0], [0.8, 2 / 3], rtol=1e-6)


def test_a_probability_of_0_stays_next_to_none() -> None:
    assert tempered(np.array([[1.0, 0.0]]), 3.0)[0].tolist() == pytest.approx([1, 1e-4], rel=1e-3)


def test_many_videos_decide_the_temperature() -> None:
    # A logit of 4 means 98 %, but three of four are right. The factor ln 3 / 4 turns it into 75 %.
    sure = 1 / (1 + np.exp(-4))
    probabilities_BC, labels_B = np.array([[sure, 1 - sure]] * 4000), np.array([0, 0, 0, 1] * 1000)
    assert fit_temperature(probabilities_BC, labels_B) == pytest.approx(4 / np.log(3), abs=1e-2)


def test_without_an_error_it_stays_near_the_prior() -> None:
    probabilities_BC = np.array([[0.7, 0.3]] * 30)
    few, many = (fit_temperature(probabilities_BC[:num], np.zeros(num, np.int64)) for num in (2, 30))
    assert 0.1 < many < few < 1


def test_few_videos_leave_the_temperature_near_its_prior() -> None:
    # One video at one half tells nothing.
    nothing_BC, labels_B = np.array([[0.5, 0.5]]), np.array([0])
    assert fit_temperature(nothing_BC, labels_B) == pytest.approx(1, abs=1e-3)
    assert fit_temperature(nothing_BC, labels_B, 0.5431) == pytest.approx(0.5431, abs=1e-3)
    assert fit_temperature(nothing_BC, labels_B, 0.01) == pytest.approx(0.01, abs=1e-4)


def test_the_prior_counts_as_one_standard_deviation() -> None:
    # One video of class 0 at p = 0.7, so that d = ln(7/3). At temperature t the derivative by ln t of the loss
    # ln(1 + exp(-d/t)) + (ln t - ln c)^2 / 2 is 0: (d/t) / (1 + exp(d/t)) + ln t - ln c = 0.
    for prior in (1.0, 0.5431):
        found = fit_temperature(np.array([[0.7, 0.3]]), np.array([0]), prior)
        ratio = np.log(7 / 3) / found
        assert ratio / (1 + np.exp(ratio)) + np.log(found / prior) == pytest.approx(0, abs=1e-3)
