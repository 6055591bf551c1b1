"""Every job as a process of its own: its help, and the refusal of a command line."""

from __future__ import annotations

import pytest

from tests.support.jobs import ROOT, job_process

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


def test_there_are_twelve_jobs() -> None:
    assert [
        *(
            "audit",
            "classify",
            "diff",
            "evaluate",
            "export",
            "extract",
            "index",
            "plan",
            "quantize",
            "serve",
            "train",
            "tune",
        )
    ] == JOBS


@pytest.mark.parametrize("name", JOBS)
def test_a_job_shows_its_flags_and_refuses_others(name: str) -> None:
    shown = job_process(name, "--help", ray_address="local")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"usage: {name}.py [-h] [--config FILE]")
    refused = job_process(name, "--no-such-flag", ray_address="local")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"{name}.py: error: unrecognized arguments: --no-such-flag; see --help\n"
