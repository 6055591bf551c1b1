"""Hyperparameter searches before their first trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tuning_job
from tests.unit.runs.test_outputs import files_in, make_search


def test_a_dry_run_lists_what_overwrite_would_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "search"
    names = make_search(output)
    flags = {"num_samples": 3, "dry_run": True, "overwrite": True}
    assert tuning_job.run(output, tuning_job.SPACE, tuning_job.SEARCH, **flags) is None
    first, second, *deleted = capsys.readouterr().out.split("\n")
    assert first.startswith("leakage: ")
    assert second == f"would search 3 trials over dropout, lr by random into {output}"
    assert deleted.pop() == ""  # the last line is complete
    assert sorted(deleted) == sorted(f"would delete {output}/{name}" for name in names)
    assert files_in(output) == sorted(names)
