"""Jobs for tests: run to their end in the process of the tests, or started as processes that can be killed.

A job in the process of the tests is the script in `jobs/` itself, with its command line, output and exit code. It
uses the Ray of the fixture `ray_session`, so a test that runs a job with Ray must use this fixture.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 480.0
"""Longest wait for the first output of a job process, which is seconds on a quiet machine."""


@dataclass(frozen=True)
class Done:
    """A job that has ended."""

    returncode: int
    stdout: str
    stderr: str


def job(name: str, *arguments: str | Path) -> Done:
    """Run a job to its end in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    script = str(ROOT / "jobs" / f"{name}.py")
    with (
        patch.object(sys, "argv", [script, *map(str, arguments)]),
        patch.object(sys, "path", [*sys.path]),  # a copy, which the script may change
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(script, run_name="__main__")
    assert isinstance(ended.value.code, int), ended.value.code
    return Done(ended.value.code, stdout.getvalue(), stderr.getvalue())


def succeed(name: str, *arguments: str | Path) -> str:
    """Standard output of a job that ends with exit code 0."""
    done = job(name, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refuse(name: str, *arguments: str | Path) -> str:
    """The one line on standard error of a job that is refused before any work."""
    done = job(name, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stdout + done.stderr
    return done.stderr


def job_process(name: str, *arguments: str | Path, ray_address: str) -> subprocess.CompletedProcess[str]:
    """Run a job to its end in a process of its own. `ray_address`: a cluster, or `local` for a Ray of its own."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "RAY_ADDRESS": ray_address}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def killed_when(condition: Callable[[], bool], name: str, *arguments: str | Path) -> None:
    """Run a job with a Ray of its own, and SIGKILL its whole process group, Ray included, as soon as `condition`
    holds."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            assert process.poll() is None, process.communicate()[0].decode()
            assert time.monotonic() < deadline, f"nothing was written in {START_TIMEOUT_S:.0f} s"
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ids(run: Path, place: str) -> list[str]:
    """Sorted video ids in the shards of a run's directory `place`: `.` or `quarantine`."""
    return sorted(
        i for path in run.glob(f"{place}/part-*.parquet") for i in pq.read_table(path)["video_id"].to_pylist()
    )
