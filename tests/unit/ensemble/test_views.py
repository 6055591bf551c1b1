"""Views of a sequence, and their weights as fitted on validation videos."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.ensemble import views

FRAMES = np.array([[0.0], [2.0], [4.0], [6.0]], np.float16)


def test_the_views_of_four_frames() -> None:
    frames = {name: view(FRAMES)[:, 0].tolist() for name, view in views.VIEWS.items()}
    assert frames["original"] == [0, 2, 4, 6]
    assert frames["reverse"] == [6, 4, 2, 0]
    assert frames["faster"] == [0, 4]
    assert frames["slower"] == pytest.approx([0, 1.2, 2.4, 3.6, 4.8, 6], abs=2e-3)
    assert all(view(FRAMES).dtype == np.float16 for view in views.VIEWS.values())


def test_the_views_of_a_single_frame_are_that_frame() -> None:
    assert [view(FRAMES[:1]).tolist() for view in views.VIEWS.values()] == [[[0.0]]] * 4


def votes(*true: list[float]) -> np.ndarray:
    """[V, B, 2] with these probabilities of class 0, the true one."""
    return np.array([[[p, 1 - p] for p in row] for row in true])


def weights(probabilities_VBC: np.ndarray, groups: list[str]) -> list[float]:
    fitted = views.fit_weights(probabilities_VBC, np.zeros(probabilities_VBC.shape[1], int), groups)
    assert [view.name for view in fitted] == ["original", "reverse", "faster", "slower"]
    return [view.weight for view in fitted]


def test_views_that_hurt_or_add_nothing_get_no_weight() -> None:
    same, worse = [0.9, 0.8, 0.9, 0.8], [0.5, 0.4, 0.5, 0.4]
    assert weights(votes(same, same, worse, worse), list("abcd")) == [1, 0, 0, 0]


def test_a_view_that_helps_every_source_votes() -> None:
    probabilities_VBC = votes([0.5, 0.6] * 3, [0.9, 0.9] * 3, [0.1] * 6, [0.1] * 6)
    found = weights(probabilities_VBC, list("abcdef"))
    assert found[2:] == [0, 0]
    assert found[0] + found[1] == pytest.approx(1)
    # Six videos are few, so the prior pulls the weight towards a half.
    assert 0.5 < found[1] < 0.75
    # Five sources are too few to show that a view helps: all of them gain by chance in one of 32 cases.
    assert weights(probabilities_VBC, list("abcdea")) == [1, 0, 0, 0]


def test_a_gain_of_two_standard_errors_does_not_suffice() -> None:
    # Gains of 0.3 and -0.1 nats for four and two of six sources: mean 1/6, standard error 0.0843, ratio 1.98.
    gain_B = np.array([0.3, 0.3, 0.3, 0.3, -0.1, -0.1])
    original_B = np.full(6, 0.3)
    view_B = original_B * (2 * np.exp(gain_B) - 1)
    (_, reverse, *_) = views.fit_weights(
        votes(list(original_B), list(view_B), list(original_B), list(original_B)), np.zeros(6, int), list("abcdef")
    )
    assert (reverse.gain, reverse.gain_se) == (pytest.approx(1 / 6), pytest.approx(0.0843, abs=1e-4))
    assert reverse.weight == 0


def test_a_view_that_helps_a_single_source_is_noise() -> None:
    original = [0.9] * 8
    lucky = [0.95] * 4 + [0.85] * 4
    assert weights(votes(original, lucky, original, original), ["a"] * 4 + list("bcde")) == [1, 0, 0, 0]
    assert weights(votes([0.5] * 4, [0.9] * 4, [0.5] * 4, [0.5] * 4), ["a"] * 4) == [1, 0, 0, 0]


def test_the_gain_is_in_nats_a_source() -> None:
    (_, reverse, *_) = views.fit_weights(
        votes([0.2, 0.2, 0.4], [0.6, 0.6, 0.4], [0.2, 0.2, 0.4], [0.2, 0.2, 0.4]), np.zeros(3, int), ["a", "a", "b"]
    )
    # Source a: ln(0.4 / 0.2); source b: 0.
    assert reverse.gain == pytest.approx(np.log(2) / 2)
    assert reverse.gain_se == pytest.approx(np.log(2) / 2)


def test_the_gain_must_be_significant_for_the_number_of_sources_and_of_views() -> None:
    # For many sources it is the normal quantile of 1 - 0.05 / 3, from printed tables 2.128.
    assert views.least_standard_errors(1_000_000, 3) == pytest.approx(2.128, abs=1e-3)
    # Student's t with 6 degrees of freedom: 1/2 + sin a (1 + cos² a / 2 + 3 cos⁴ a / 8) / 2 with tan a = t / √6.
    angle = np.arctan(views.least_standard_errors(7, 3) / 6**0.5)
    share = 0.5 + np.sin(angle) * (1 + np.cos(angle) ** 2 / 2 + 3 * np.cos(angle) ** 4 / 8) / 2
    assert share == pytest.approx(1 - 0.05 / 3, abs=1e-9)
    # One candidate, 9 degrees of freedom: 1.833 in printed tables at 0.05.
    assert views.least_standard_errors(10, 1) == pytest.approx(1.833, abs=1e-3)
    assert [num for num in range(10) if views.least_standard_errors(num, 3) < np.inf] == [6, 7, 8, 9]


@pytest.mark.parametrize("num_sources", [5, 6, 20])
def test_few_ensembles_let_in_a_worthless_view(num_sources: int) -> None:
    # Three views per ensemble whose gain is ±0.1 with equal probability for each source: 0 on average.
    generator, num_draws = np.random.default_rng(0), 300
    groups = [str(source) for source in range(num_sources)]
    original_B, is_let_in = np.full(num_sources, 0.6), []
    for _ in range(num_draws):
        gain_VB = generator.choice([-0.1, 0.1], size=(3, num_sources)) * generator.uniform(0.5, 1.5, size=num_sources)
        # Mixed half and half, a view with p = 0.6 (2 exp(gain) - 1) gains exactly that.
        true_VB = np.vstack([original_B, original_B * (2 * np.exp(gain_VB) - 1)])
        fitted = views.fit_weights(np.stack([true_VB, 1 - true_VB], axis=2), np.zeros(num_sources, int), groups)
        is_let_in.append([view.weight > 0 for view in fitted[1:]])
    # At most 5 %, with three standard errors of 300 draws. One standard error let in 16 % of the views.
    assert np.any(is_let_in, axis=1).mean() <= 0.05 + 3 * (0.05 * 0.95 / num_draws) ** 0.5
