"""Progress and state of a trial."""

from __future__ import annotations

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
