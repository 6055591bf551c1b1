"""The learning rate of each epoch."""

from __future__ import annotations

import pytest

from vidclf.config import FitConfig
from vidclf.training.learning_rate import learning_rate


def rates(**values: float) -> list[float]:
    config = FitConfig(**{"lr": 0.01, "warm_restart_epochs": 2, **values})  # type: ignore[arg-type]
    return [learning_rate(epoch, config) for epoch in range(1, 8)]


def test_cosine_cycles_double_in_length() -> None:
    assert rates(warmup_epochs=0) == pytest.approx([0.01, 0.005, 0.01, 0.008536, 0.005, 0.001464, 0.01], abs=1e-6)


def test_the_warm_up_rises_to_the_first_cycle() -> None:
    assert rates(warmup_epochs=3) == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.005, 0.01, 0.008536], abs=1e-6)
