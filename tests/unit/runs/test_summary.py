"""Lines of a run: every video rejected, which ends with the exit code of the error budget, and a job that stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runs.test_audit import write_run
from vidclf.errors import ErrorBudgetExceeded
from vidclf.runs.summary import check_any_ok, stopped_text


@pytest.mark.parametrize(("num_videos", "rejected"), [(8, "8 of 8 videos were"), (1, "the only video was")])
def test_videos_of_which_none_was_found_exceed_the_budget(tmp_path: Path, num_videos: int, rejected: str) -> None:
    rows = [(f"/data/{number}.mp4", "not_found") for number in range(num_videos)]
    run = write_run(tmp_path, manifest=[uri for uri, _ in rows], parts=[], quarantine=[rows])
    summary = {"num_ok": 0, "num_quarantined": num_videos, "reasons": {"not_found": num_videos}}
    with pytest.raises(ErrorBudgetExceeded) as error:
        check_any_ok(run, summary, 0.5)
    assert str(error.value) == (
        f"{run}: {rejected} rejected (not_found {num_videos}; for one /data/0.mp4), a share above --max-error-rate "
        "0.5; correct the locations or the storage, then submit again with --retry-quarantined all"
    )


def test_one_result_or_an_allowed_rate_of_one_is_enough(tmp_path: Path) -> None:
    check_any_ok(str(tmp_path), {"num_ok": 1, "num_quarantined": 8}, 0.0)
    check_any_ok(str(tmp_path), {"num_ok": 0, "num_quarantined": 8}, 1.0)
    check_any_ok(str(tmp_path), {"num_ok": 0, "num_quarantined": 0}, 0.5)


@pytest.mark.parametrize(
    ("why", "end"),
    [
        ("stopped by SIGTERM", "; submit the same job again to continue"),
        ("Ray did not start; finished work is kept: submit the same job again", ""),
    ],
)
def test_a_stopped_job_says_once_what_continues_it(tmp_path: Path, why: str, end: str) -> None:
    run = write_run(tmp_path, manifest=["/data/0.mp4"], parts=[], quarantine=[])
    assert stopped_text(run, [run], why) == f"{why}; {run}: 0 ok, 0 quarantined, 1 left of 1 video{end}"
