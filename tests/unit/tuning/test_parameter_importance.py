"""Parameter importance, where it is known."""

from __future__ import annotations

import numpy as np

from vidclf.tuning.parameter_importance import importances


def test_the_parameter_that_makes_the_score_comes_first() -> None:
    generator = np.random.default_rng(0)
    points = [
        {
            "lr": float(10 ** generator.uniform(-4, -2)),
            "heads": int(generator.integers(1, 5)),
            "scales": [[1.0], None][i % 2],
        }
        for i in range(40)
    ]
    shares = importances(points, [float(np.log10(point["lr"])) + 0.02 * point["heads"] for point in points])
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.9
    assert abs(sum(shares.values()) - 1) < 1e-9


def test_what_cannot_be_told_is_not_told() -> None:
    points = [{"lr": 0.1 * number, "heads": 2} for number in range(1, 6)]
    assert importances(points, [0.5] * 5) == {}
    assert importances(points[:3], [0.1, 0.2, 0.3]) == {}
    assert importances(points, [0.1, 0.2, 0.3, 0.4, 0.5]) == {"lr": 1.0}
