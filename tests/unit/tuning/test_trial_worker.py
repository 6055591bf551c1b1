"""Progress and state of a trial."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from ray.tune import Checkpoint

from tests.support import training_job, tuning_job
from tests.unit.training.test_member_fit import epoch
from vidclf.config import SearchConfig, TrainConfig
from vidclf.training.dataset import training_data
from vidclf.training.member_fit import MemberFit
from vidclf.tuning import trial_files, trial_worker
from vidclf.tuning.trial_files import TrialRecord


@pytest.mark.parametrize(
    ("values", "rungs"),
    [
        ({"grace_epochs": 2, "reduction_factor": 3.0}, [2, 6, 18]),
        ({"grace_epochs": 2, "reduction_factor": 1.5}, [2, 3, 5, 7, 11, 16]),
        ({"scheduler": "none"}, []),
    ],
)
def test_a_trial_may_be_stopped_at_rungs(values: dict[str, Any], rungs: list[int]) -> None:
    search = SearchConfig(**values)
    assert [number for number in range(1, 19) if trial_worker.is_rung(search, number)] == rungs


def test_epochs_that_are_trained_again_are_told_once() -> None:
    """A killed trial whose state is two epochs older than its progress."""
    history = [epoch(number=number, val_macro_f1=0.1 * number) for number in (1, 2, 3)]
    recorded = [asdict(one) for one in history]
    progress = TrialRecord(
        trial_id="a", features="f", settings={}, started_s=0.0, history=recorded, ended_s=[1.0, 2.0, 3.0], best_epoch=3
    )

    def at(number: int) -> Any:
        return SimpleNamespace(history=history[:number], best=history[number - 1], is_done=False)

    for number in (1, 2):
        trial_worker._update(progress, at(number), num_recorded=3)
        assert (len(progress.history), progress.best_epoch) == (3, 3)
    history.append(epoch(number=4, val_macro_f1=0.9))
    trial_worker._update(progress, at(4), num_recorded=3)
    assert (progress.ended_s[:3], len(progress.ended_s), progress.best_epoch) == ([1.0, 2.0, 3.0], 4, 4)
    # A trial that takes over another's state takes its history.
    trial_worker._update(progress, at(1), num_recorded=0)
    assert (progress.ended_s, progress.best_epoch) == ([1.0], 1)


def test_an_epoch_that_only_the_state_has_is_published_when_the_trial_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that was killed after it wrote its last state and before it wrote its progress."""
    history = [epoch(number=number, val_macro_f1=0.1 * number) for number in (1, 2)]
    progress = TrialRecord(
        trial_id="a",
        features="f",
        settings={},
        started_s=0.0,
        history=[asdict(history[0])],
        ended_s=[1.0],
        best_epoch=1,
    )
    trial_files.publish_progress(str(tmp_path), progress)
    trial_files.publish_state(str(tmp_path), "a", {"history": []})
    tracker = nullcontext(SimpleNamespace(log=lambda *figures: None))
    monkeypatch.setattr(trial_worker, "Tracker", lambda *values, **options: tracker)
    monkeypatch.setattr(trial_worker.ray_tune, "get_checkpoint", lambda: None)
    reported: list[Any] = []
    monkeypatch.setattr(trial_worker.ray_tune, "report", reported.append)
    fit: Any = SimpleNamespace(history=history, best=history[1], is_done=True, restore=lambda state: None)
    study: Any = SimpleNamespace(space=SimpleNamespace(search=SearchConfig()), guard=None)
    config = TrainConfig(features=("f",), output=str(tmp_path))
    trial_worker._run_epochs(fit, config, SimpleNamespace(classes=["A", "B"]), study, progress)  # type: ignore[arg-type]
    published = trial_files.progress_of(str(tmp_path), "a")
    assert published is not None
    assert (len(published.history), published.best_epoch, published.is_done) == (2, 2, True)
    assert [figures[trial_worker.TIME] for figures in reported] == [2]


def test_weights_from_a_gpu_are_read_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = {"best_state": {"w": torch.ones(1)}, "best": {"number": 2}, "history": [{"number": 1}, {"number": 2}]}
    trial_files.publish_state(str(tmp_path), "a", snapshot)
    load, load_options = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *args, **options: load_options.append(options) or load(*args, **options))
    trained = trial_files.trained(str(tmp_path), "a")
    assert trained is not None
    assert (trained.best, len(trained.history)) == ({"number": 2}, 2)
    assert [options["map_location"] for options in load_options] == ["cpu"]
    assert trial_files.trained(str(tmp_path), "b") is None


def test_a_trial_that_continues_from_another_names_the_settings_of_every_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Population-based training: after its second epoch, trial `heir` continues from the weights of trial `donor`."""
    data = training_data(training_job.features())
    study: Any = SimpleNamespace(
        space=SimpleNamespace(search=SearchConfig(algorithm="pbt", scheduler="none", perturbation_epochs=2)), guard=None
    )
    tracker = nullcontext(SimpleNamespace(log=lambda *figures: None))
    monkeypatch.setattr(trial_worker, "Tracker", lambda *values, **options: tracker)
    reported: list[tuple[int, float]] = []
    checkpoints: dict[int, Checkpoint] = {}

    def report(figures: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
        reported.append((figures[trial_worker.TIME], figures[trial_worker.METRIC]))
        if checkpoint is not None:
            kept = shutil.copytree(checkpoint.path, tmp_path / f"checkpoint_{len(checkpoints)}")
            checkpoints[figures[trial_worker.TIME]] = Checkpoint.from_directory(str(kept))

    monkeypatch.setattr(trial_worker.ray_tune, "report", report)

    def run(trial_id: str, checkpoint: Checkpoint | None, **settings: Any) -> TrialRecord:
        monkeypatch.setattr(trial_worker.ray_tune, "get_checkpoint", lambda: checkpoint)
        values = {**tuning_job.SPACE, "dropout": 0.1, "epochs": 4, **settings}
        sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        config = TrainConfig(features=("f",), output=str(tmp_path), **sizes)
        progress = TrialRecord(trial_id=trial_id, features="f", settings={}, started_s=0.0)
        fit = MemberFit(data, config, 0, torch.device("cpu"))
        trial_worker._run_epochs(fit, config, data, study, progress)
        return progress

    donor = run("donor", None, lr=0.01)
    assert [number for number, _ in reported] == [1, 2, 3, 4]
    assert [score for _, score in reported] == [one["val_macro_f1"] for one in donor.history]
    assert [(one["first_epoch"], one["settings"]["lr"]) for one in donor.schedule] == [(1, 0.01)]

    reported.clear()
    heir = run("heir", checkpoints[2], lr=0.002)
    # The donor's two epochs are in the history, but their score is not reported for the settings of the heir.
    assert [one["val_loss"] for one in heir.history[:2]] == [one["val_loss"] for one in donor.history[:2]]
    assert reported == [(number, heir.history[number - 1]["val_macro_f1"]) for number in (3, 4)]
    assert [(one["first_epoch"], one["settings"]["lr"]) for one in heir.schedule] == [(1, 0.01), (3, 0.002)]
    assert heir.best_epoch is not None
    assert heir.settings["lr"] == (0.01 if heir.best_epoch <= 2 else 0.002)

    # Whichever epoch is best, the files name its settings.
    for best_epoch, lr in ((2, 0.01), (4, 0.002)):
        history = [epoch(number=number) for number in (1, 2, 3, 4)]
        fit: Any = SimpleNamespace(history=history, best=history[best_epoch - 1], is_done=True)
        trial_worker._update(heir, fit, num_recorded=0)
        trial_files.publish_progress(str(tmp_path), heir)
        row = trial_files.row(str(tmp_path), "heir", None, ["lr"])
        assert (row["best_epoch"], row["lr"]) == (best_epoch, lr)
        assert trial_files.fit_config(row).lr == lr
        text = trial_files.best_yaml(row, "manifest", "note").decode()
        assert yaml.safe_load(text)["lr"] == lr
        assert f"# The settings changed during this training. Those below were in force in epoch {best_epoch}:" in text
        assert "#   from epoch 1: lr 0.01\n#   from epoch 3: lr 0.002\n" in text
