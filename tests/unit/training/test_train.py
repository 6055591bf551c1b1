"""Training jobs before their first member is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import training_job
from tests.unit.runs.test_outputs import files_in, make_ensemble
from vidclf.training.train import train


def test_a_dry_run_lists_what_overwrite_would_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = make_ensemble(tmp_path / "ensemble")
    config = replace(training_job.config(str(tmp_path / "ensemble")), dry_run=True, overwrite=True)
    assert train(config, [training_job.features()], ["DEFAULT"]) is None
    first, second, *deleted = capsys.readouterr().out.split("\n")
    assert first.startswith("leakage: ")
    assert second == f"would train members [0] of 1 into {tmp_path}/ensemble"
    assert deleted.pop() == ""  # the last line is complete
    assert sorted(deleted) == sorted(f"would delete {tmp_path}/ensemble/{name}" for name in names)
    assert files_in(tmp_path / "ensemble") == sorted(names)
