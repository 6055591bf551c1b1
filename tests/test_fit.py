"""Training one member on a toy that can be learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidclf.config import FitConfig
from vidclf.learning.dataset import Sequences, TrainingData
from vidclf.learning.fit import Epoch, FittedMember, fit_member, logits_of
from vidclf.learning.model import TemporalClassifier

CONFIG = FitConfig(
    hidden_dim=8, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(8,), epochs=30, patience=30, lr=3e-3
)
CPU = torch.device("cpu")


def sequences(seed: int) -> Sequences:
    """Two classes whose frames have means -1 and +1; lengths from 2 to 5 frames."""
    generator = np.random.default_rng(seed)
    labels = [index % 2 for index in range(24)]
    features = [
        (generator.normal(2.0 * label - 1.0, 0.5, (2 + index % 4, 4))).astype(np.float16)
        for index, label in enumerate(labels)
    ]
    return Sequences(features=features, labels=labels)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData(classes=["A", "B"], train=sequences(0), val=sequences(1))


@pytest.fixture(scope="module")
def fitted(data: TrainingData) -> FittedMember:
    return fit_member(data, CONFIG, 0, CPU)


def test_a_separable_toy_is_learned(fitted: FittedMember) -> None:
    assert fitted.best.val_accuracy == 1.0


def test_the_state_returned_is_that_of_the_best_epoch(data: TrainingData, fitted: FittedMember) -> None:
    best = max(fitted.history, key=lambda epoch: (epoch.val_macro_f1, -epoch.val_loss))
    assert fitted.best == best
    model = TemporalClassifier(4, 2, CONFIG)
    model.load_state_dict(fitted.state)
    predicted = logits_of(model, data.val, 48, CPU).argmax(dim=1)
    assert float((predicted == torch.tensor(data.val.labels)).float().mean()) == fitted.best.val_accuracy


def test_one_seed_gives_one_model_and_another_seed_another(data: TrainingData, fitted: FittedMember) -> None:
    same, other = fit_member(data, CONFIG, 0, CPU), fit_member(data, CONFIG, 1, CPU)
    assert all(torch.equal(same.state[key], value) for key, value in fitted.state.items())
    assert any(not torch.equal(other.state[key], value) for key, value in fitted.state.items())


def test_training_stops_when_patience_is_spent_and_reports_every_epoch(data: TrainingData) -> None:
    told: list[Epoch] = []
    # Nothing is learned at this rate, so the first epochs stay the best.
    config = FitConfig(**{**vars(CONFIG), "lr": 1e-12, "weight_decay": 0.0, "patience": 3})
    fitted = fit_member(data, config, 0, CPU, told.append)
    assert [epoch.number for epoch in told] == list(range(1, len(fitted.history) + 1))
    assert len(fitted.history) == fitted.best.number + 3 < 30


def test_the_learning_rate_follows_cosine_cycles_of_doubling_length(data: TrainingData) -> None:
    config = FitConfig(**{**vars(CONFIG), "warm_restart_epochs": 2, "epochs": 7, "lr": 0.01})
    rates = [epoch.lr for epoch in fit_member(data, config, 0, CPU).history]
    assert rates == pytest.approx([0.01, 0.005, 0.01, 0.008536, 0.005, 0.001464, 0.01], abs=1e-5)
