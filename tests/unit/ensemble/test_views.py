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
    found = weights(votes([0.5, 0.6, 0.5, 0.6], [0.9, 0.9, 0.9, 0.9], [0.1] * 4, [0.1] * 4), list("abcd"))
    assert found[2:] == [0, 0]
    assert found[0] + found[1] == pytest.approx(1)
    # Four videos are few, so the prior pulls the weight towards a half.
    assert 0.5 < found[1] < 0.75


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
