"""Connection to Ray: what it changes in the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vidclf import ray_cluster

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
