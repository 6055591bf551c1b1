"""Training of one member on a small problem that can be learned."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from vidclf.config import FitConfig
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.training import member_fit, random_streams
from vidclf.training.averaged_weights import latest_share
from vidclf.training.dataset import Batches, Sequences, TrainingData, class_balanced_order
from vidclf.training.gpu_memory import Placement
from vidclf.training.member_fit import FittedMember, MemberFit, fit_member, has_collapsed, predict, write_snapshot
from vidclf.training.member_state import Epoch
from vidclf.training.random_streams import Stream

CONFIG = FitConfig(
    hidden_dim=8,
    num_lstm_layers=1,
    num_attention_heads=2,
    classifier_dims=(8,),
    dropout=0.1,
    epochs=10,
    patience=10,
    lr=1e-2,
    warmup_epochs=2,
)
CPU = torch.device("cpu")


def sequences(seed: int, direction: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Sequences:
    """Two classes whose frames have means -`direction` and +`direction`; lengths from 2 to 5 frames."""
    generator = np.random.default_rng(seed)
    labels = [index % 2 for index in range(24)]
    features = [
        ((2.0 * label - 1.0) * np.array(direction) + generator.normal(0.0, 0.5, (2 + index % 4, 4))).astype(np.float16)
        for index, label in enumerate(labels)
    ]
    return Sequences.of(features, labels)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData(classes=["A", "B"], train=sequences(0), val=sequences(1))


@pytest.fixture(scope="module")
def fitted(data: TrainingData) -> FittedMember:
    return fit_member(data, CONFIG, 0, CPU)


def untimed(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, duration_s=0.0) for epoch in history]


def test_a_separable_toy_is_learned(fitted: FittedMember) -> None:
    assert fitted.best.val_accuracy == fitted.best.val_macro_f1 == fitted.best.val_weighted_f1 == 1.0
    assert fitted.best.val_f1 == [1.0, 1.0]
    assert fitted.num_attempts == 1


def test_an_attentive_probe_learns_it_and_continues() -> None:
    # The LayerNorm of its input would remove what all features have in common.
    across = (1.0, -1.0, 1.0, -1.0)
    data = TrainingData(classes=["A", "B"], train=sequences(0, across), val=sequences(1, across))
    config = replace(CONFIG, model="attentive", epochs=6)
    fit = MemberFit(data, config, 0, CPU)
    for _ in range(3):
        fit.run_epoch()
    resumed = MemberFit(data, config, 0, CPU)
    resumed.restore(fit.checkpoint())
    for training in (fit, resumed):
        while not training.is_done:
            training.run_epoch()
    assert fit.result().best.val_accuracy == 1.0
    assert untimed(fit.result().history) == untimed(resumed.result().history)
    assert set(fit.result().state) >= {"query", "frame_norm.weight", "attention.out_proj.weight", "classifier.weight"}
    assert all(torch.equal(resumed.result().state[key], value) for key, value in fit.result().state.items())


def test_the_state_returned_is_that_of_the_best_epoch(data: TrainingData, fitted: FittedMember) -> None:
    best = max(fitted.history, key=lambda epoch: (epoch.val_macro_f1, -epoch.val_loss))
    assert fitted.best == best
    model = TemporalClassifier(4, 2, CONFIG)
    model.load_state_dict(fitted.state)
    predicted = predict(model, Batches(data.val, CPU), 48, CPU).argmax(dim=1)
    assert float((predicted == torch.tensor(data.val.labels)).float().mean()) == fitted.best.val_accuracy


def test_one_seed_gives_one_model_and_another_seed_another(data: TrainingData, fitted: FittedMember) -> None:
    same, other = fit_member(data, CONFIG, 0, CPU), fit_member(data, CONFIG, 1, CPU)
    assert all(torch.equal(same.state[key], value) for key, value in fitted.state.items())
    assert any(not torch.equal(other.state[key], value) for key, value in fitted.state.items())


def test_training_stops_when_patience_is_spent_and_reports_every_epoch(data: TrainingData) -> None:
    reported: list[Epoch] = []
    # Nothing is learned at this learning rate, so one of the first epochs stays the best.
    config = replace(CONFIG, lr=1e-12, weight_decay=0.0, patience=3, max_restarts=0)
    fitted = fit_member(data, config, 0, CPU, reported.append)
    assert [epoch.number for epoch in reported] == list(range(1, len(fitted.history) + 1))
    assert len(fitted.history) == fitted.best.number + 3 < 10


@pytest.mark.parametrize("killed_after", [1, 4, 9])
def test_a_restored_member_goes_on_as_if_it_had_not_been_killed(
    data: TrainingData, fitted: FittedMember, killed_after: int
) -> None:
    first = MemberFit(data, CONFIG, 0, CPU)
    for _ in range(killed_after):
        first.run_epoch()
    second = MemberFit(data, CONFIG, 0, CPU)
    second.restore(first.checkpoint())
    while not second.is_done:
        second.run_epoch()
    result = second.result()
    assert untimed(result.history) == untimed(fitted.history)
    assert all(torch.equal(result.state[key], value) for key, value in fitted.state.items())


def test_a_member_that_goes_on_from_anothers_weights_keeps_its_own_settings(data: TrainingData) -> None:
    donor = MemberFit(data, replace(CONFIG, weight_decay=0.5), 0, CPU)
    donor.run_epoch()
    heir_config = replace(CONFIG, weight_decay=0.0, lr=1e-3)
    heir, alone = MemberFit(data, heir_config, 0, CPU), MemberFit(data, heir_config, 0, CPU)
    heir.restore(donor.checkpoint())
    assert untimed(list(heir.history)) == untimed(list(donor.history))
    assert [group["weight_decay"] for group in heir._optimizer.param_groups] == [0.0]
    alone.run_epoch()
    assert heir.run_epoch().lr == alone.run_epoch().lr != donor.run_epoch().lr


def epoch(**values: object) -> Epoch:
    plain = dict.fromkeys(Epoch.__dataclass_fields__, 0.0)
    return Epoch(**{**plain, "attempt": 1, "number": 1, "train_recall": [], "val_f1": [], **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recall", "draws", "collapsed"),
    [
        ([1.0, 0.0, 0.0, 0.0], [8] * 4, True),
        ([0.9, 0.9, 0.12, 0.9], [8] * 4, True),
        ([0.4, 0.4, 0.13, 0.4], [8] * 4, False),
        ([0.6, 0.3], [8, 8], False),
        ([0.4, 0.4, 0.13, None], [8, 8, 8, 0], False),
        ([0.4, 0.4, 0.12, None], [8, 8, 8, 0], True),
        # Guessing recognises one of 4 draws: 2 of the 8 draws of missed classes, but fewer than 2 of 7.
        ([1.0, 0.0, 0.0, 1.0], [8, 4, 4, 8], True),
        ([1.0, 0.0, 0.0, 1.0], [8, 4, 3, 8], False),
        # 46 classes of 3 videos: 7 classes whose few draws were missed by chance, and a constant answer.
        ([0.0] * 7 + [0.5] * 35 + [None] * 4, [3] * 42 + [0] * 4, False),
        ([1.0] + [0.0] * 45, [3] * 46, True),
    ],
)
def test_classes_that_are_recognised_less_often_than_by_guessing_mark_a_collapse(
    recall: list[float | None], draws: list[int], collapsed: bool
) -> None:
    assert has_collapsed(epoch(train_recall=recall, train_draws=draws)) is collapsed


def test_a_member_that_learns_many_classes_of_few_videos_has_not_collapsed() -> None:
    # 46 classes of 3 videos, each draw recognised with probability 1/2: no epoch of 500 counts as collapsed.
    generator = np.random.default_rng(0)
    for _ in range(500):
        draws = np.bincount(generator.integers(46, size=138), minlength=46)
        right = generator.binomial(draws, 0.5)
        recall = [float(r / n) if n else None for r, n in zip(right, draws, strict=True)]
        assert not has_collapsed(epoch(train_recall=recall, train_draws=draws.tolist()))


def test_a_class_that_is_not_drawn_in_an_epoch_has_no_recall() -> None:
    classes = [f"{index}" for index in range(12)]
    generator = np.random.default_rng(0)
    split = Sequences.of([generator.normal(size=(2, 4)).astype(np.float16) for _ in classes], list(range(12)))
    first = MemberFit(TrainingData(classes=classes, train=split, val=split), CONFIG, 0, CPU).run_epoch()
    order_B = class_balanced_order(split.labels, random_streams.generator(0, Stream.SAMPLER, attempt=1, epoch=1))
    drawn = [split.labels[index] for index in order_B.tolist()]
    assert 0 < len(set(drawn)) < 12
    assert [value is not None for value in first.train_recall] == [index in drawn for index in range(12)]
    assert first.train_draws == [drawn.count(index) for index in range(12)]


def test_dropout_and_the_choice_of_videos_have_streams_of_their_own(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[float]] = []

    def of_an_epoch(fit: MemberFit, generator: torch.Generator) -> None:
        drawn.extend([torch.rand(64).tolist(), torch.rand(64, generator=generator).tolist()])
        raise StopIteration

    monkeypatch.setattr(MemberFit, "_train_epoch", of_an_epoch)
    for seed in (0, 1):
        fit = MemberFit(data, CONFIG, seed, CPU)
        drawn.append(torch.rand(64, generator=random_streams.generator(seed, Stream.BOOTSTRAP)).tolist())
        for attempt in (1, 2):
            fit._state.attempt, fit._state.number = attempt, 0
            for _ in range(2):
                with pytest.raises(StopIteration):
                    fit.run_epoch()
    assert len({numbers[0] for numbers in drawn}) == len(drawn) == 18
    correlations = np.corrcoef(drawn)[~np.eye(18, dtype=bool)]
    assert abs(correlations).max() < 0.5


def test_a_collapsed_member_starts_again_from_other_weights_until_restarts_are_spent(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_fit, "has_collapsed", lambda epoch: True)
    config = replace(CONFIG, epochs=3, collapse_epoch=2, max_restarts=2)
    fitted = fit_member(data, config, 0, CPU)
    assert [(epoch.attempt, epoch.number) for epoch in fitted.history] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (3, 1),
        (3, 2),
        (3, 3),
    ]
    assert fitted.num_attempts == 3
    assert len({epoch.train_loss for epoch in fitted.history if epoch.number == 1}) == 3


def test_a_restored_member_keeps_its_attempt(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_fit, "has_collapsed", lambda epoch: True)
    config = replace(CONFIG, epochs=3, collapse_epoch=2, max_restarts=1)
    first = MemberFit(data, config, 0, CPU)
    for _ in range(2):
        first.run_epoch()  # the second epoch begins attempt 2
    second = MemberFit(data, config, 0, CPU)
    second.restore(first.checkpoint())
    while not second.is_done:
        second.run_epoch()
    assert untimed(list(second.history)) == untimed(fit_member(data, config, 0, CPU).history)


def test_a_loss_that_is_not_finite_ends_the_member_at_once(data: TrainingData) -> None:
    fit = MemberFit(data, CONFIG, 0, CPU)
    with torch.no_grad():
        next(fit._model.parameters()).fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"^seed 0, attempt 1, epoch 1: the training loss is nan and the "):
        fit.run_epoch()


def test_a_bootstrapped_member_differs_and_loses_no_class(data: TrainingData, fitted: FittedMember) -> None:
    sampled = fit_member(data, replace(CONFIG, bootstrap=True), 0, CPU)
    assert min(sampled.best.val_f1) > 0.5
    assert any(not torch.equal(sampled.state[key], value) for key, value in fitted.state.items())


def test_selection_by_accuracy_and_by_macro_f1() -> None:
    history = [epoch(number=1, val_accuracy=0.9, val_macro_f1=0.5), epoch(number=2, val_accuracy=0.8, val_macro_f1=0.7)]
    picked = {
        selection: max(history, key=lambda e: member_fit.score(e, replace(CONFIG, selection=selection))).number
        for selection in ("accuracy", "macro_f1")
    }
    assert picked == {"accuracy": 1, "macro_f1": 2}


def test_an_epoch_is_plain_values(fitted: FittedMember) -> None:
    assert all(isinstance(value, (int, float, list)) for value in asdict(fitted.best).values())


@pytest.mark.parametrize(
    ("num_steps", "averaged_steps", "share"),
    # At first 9 parts of 10, 9 of 11, 9 of 12; then the share that the average replaces in each step.
    [(1, 8.0, 0.9), (2, 8.0, 9 / 11), (3, 8.0, 0.75), (63, 8.0, 1 / 8), (1000, 8.0, 1 / 8), (1000, 0.5, 1.0)],
)
def test_the_average_follows_the_latest_weights(num_steps: int, averaged_steps: float, share: float) -> None:
    assert latest_share(num_steps, averaged_steps) == pytest.approx(share)


def test_the_weights_that_are_kept_are_averaged(data: TrainingData) -> None:
    # One step per epoch: the average after two is 9/11 of the second step's weights and 2/11 of the first average.
    config = replace(CONFIG, batch_size=24, epochs=2, averaged_epochs=100.0, selection="accuracy")
    raw = MemberFit(data, replace(config, averaged_epochs=0.0), 0, CPU)
    averaged = MemberFit(data, config, 0, CPU)
    key, expected, latest = "classifier.0.weight", [], []
    for fit in (raw, averaged):
        start = fit._model.state_dict()[key].clone()
        fit.run_epoch()
        first = fit._model.state_dict()[key].clone()
        fit.run_epoch()
        second = fit._model.state_dict()[key].clone()
        latest.append(second)
        expected.append(9 / 11 * second + 2 / 11 * (0.9 * first + 0.1 * start))
    # The steps are equal to those of a member without an average.
    assert torch.equal(latest[0], latest[1])
    torch.testing.assert_close(averaged._averaged.model.state_dict()[key], expected[1])
    assert raw._averaged.model is raw._model


@pytest.mark.parametrize("bootstrap", [False, True])
def test_where_features_are_kept_does_not_matter(data: TrainingData, bootstrap: bool) -> None:
    config = replace(CONFIG, epochs=2, bootstrap=bootstrap)
    on_device, gathered = (
        MemberFit(data, config, 0, CPU, Placement(features_on_device=is_there)) for is_there in (True, False)
    )
    assert untimed([on_device.run_epoch()]) == untimed([gathered.run_epoch()])


def test_parts_of_a_batch_add_up_to_its_gradient(data: TrainingData) -> None:
    config = replace(CONFIG, dropout=0.0, feature_noise=0.0, batch_size=24, averaged_epochs=0.0)
    fits = [MemberFit(data, config, 0, CPU, Placement(parts_per_batch=count)) for count in (1, 5)]
    epochs = [fit.run_epoch() for fit in fits]
    assert epochs[0].train_loss == pytest.approx(epochs[1].train_loss, rel=1e-5)
    assert epochs[0].train_recall == epochs[1].train_recall
    for one, other in zip(*(fit._model.parameters() for fit in fits), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_features_are_not_measured_without_noise(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_fit, "standard_deviation", lambda values: pytest.fail("reads all features"))
    assert MemberFit(data, replace(CONFIG, feature_noise=0.0), 0, CPU)._noise == 0.0


def test_no_step_counts_in_a_way_that_reads_the_device(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "bincount", lambda *arguments, **options: pytest.fail("a GPU waits for it"))
    assert any(MemberFit(data, CONFIG, 0, CPU).run_epoch().train_recall)


def test_a_snapshot_does_not_change_with_the_training(data: TrainingData) -> None:
    fit = MemberFit(data, CONFIG, 0, CPU)
    fit.run_epoch()
    taken, before = fit.snapshot(), fit.checkpoint()
    fit.run_epoch()
    stream = io.BytesIO()
    write_snapshot(taken, stream)
    assert untimed(list(restored(data, stream.getvalue()).history)) == untimed(list(restored(data, before).history))
    assert torch.equal(taken["model"]["lstm.weight_ih_l0"], restored(data, before)._model.lstm.weight_ih_l0)
    assert not torch.equal(taken["model"]["lstm.weight_ih_l0"], fit._model.lstm.weight_ih_l0)


def restored(data: TrainingData, checkpoint: bytes) -> MemberFit:
    fit = MemberFit(data, CONFIG, 0, CPU)
    fit.restore(checkpoint)
    return fit
