"""Connection to Ray: what it changes in the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from vidclf import ray_cluster
from vidclf.errors import RunStopped

ROOT = Path(__file__).resolve().parents[2]

STOPPED_AFTER_RAY_INIT = """
import signal, sys
import ray
from vidclf import ray_cluster
from vidclf.errors import RunStopped
from vidclf.runs import lease

def init(**options):
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(15))
    raise ConnectionError

ray.init = init
try:
    with lease.held([], "extract.py"):
        try:
            ray_cluster.connect()
        except ConnectionError:
            signal.raise_signal(signal.SIGTERM)
except RunStopped as stopped:
    sys.exit(str(stopped))
"""


def test_sigterm_after_the_connection_to_ray_stops_the_job_in_one_line() -> None:
    command = [sys.executable, "-c", STOPPED_AFTER_RAY_INIT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (1, "stopped by SIGTERM\n")


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_program_without_a_handler_keeps_rays(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with ray_cluster.own_sigterm_handler():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_machine_too_busy_to_start_ray_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise Exception(
            "The current node timed out during startup. This could happen because some of the raylet failed"
        )

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RunStopped) as stopped:
        ray_cluster.attach_or_start()
    assert str(stopped.value) == (
        "Ray did not start within 30 seconds, because this machine is too busy; finished work is kept: submit the same "
        "job again"
    )


def test_another_error_of_ray_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise ValueError("another error")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="another error"):
        ray_cluster.attach_or_start()
