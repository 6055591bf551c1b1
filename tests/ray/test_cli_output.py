"""Where the messages of Ray go that are printed while a job runs."""

from __future__ import annotations

import sys
import time

import pytest
from ray._private.utils import push_error_to_driver
from ray._private.worker import global_worker

from vidclf import cli


@pytest.mark.usefixtures("ray_session")
def test_warnings_of_ray_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with cli.masked_output(sys.stderr):
        print("run: 3 videos, 3 ok")
        push_error_to_driver(global_worker, "worker_pool_large", "WARNING: 8 PYTHON worker processes have been started")
        stdout = stderr = ""
        deadline = time.monotonic() + 120
        while "worker processes" not in stdout + stderr and time.monotonic() < deadline:
            time.sleep(0.05)
            captured = capsys.readouterr()
            stdout, stderr = stdout + captured.out, stderr + captured.err
    assert stdout == "run: 3 videos, 3 ok\n"
    assert "WARNING: 8 PYTHON worker processes have been started" in stderr
