"""Progress and state of a trial."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.unit.training.test_member_fit import epoch
from vidclf.config import SearchConfig
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
    config: Any = SimpleNamespace(output=str(tmp_path))
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
