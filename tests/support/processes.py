"""A job process of which a test kills the driver or a worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ray.thirdparty_files import psutil  # Ray brings its own copy

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 480.0
"""Longest wait for a job; seconds on a quiet machine."""


class Job:
    """A running `python -m tests.support.training_job`, or another module.

    `ray_address`: a cluster, or `local` for a Ray of its own, whose processes are then descendants of the job's.
    """

    def __init__(
        self, output: Path, log: Path, module: str = "tests.support.training_job", ray_address: str = "local"
    ) -> None:
        self._log = log
        with log.open("w") as file:
            self.process = psutil.Popen(
                [sys.executable, "-m", module, str(output)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RAY_ADDRESS": ray_address},
            )

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds()`; fail if the job ends before or takes too long."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert self.process.poll() is None, f"ended too early: {self._log.read_text()}"
            assert time.monotonic() < deadline, f"not in {DEADLINE_S:.0f} s: {self._log.read_text()}"
            time.sleep(0.02)

    def descendants(self) -> list[psutil.Process]:
        try:
            return list(self.process.children(recursive=True))
        except psutil.NoSuchProcess:  # one of them ended in between
            return self.descendants() if self.process.poll() is None else []

    def worker(self, name: str = "RayTrainWorker") -> psutil.Process | None:
        """The process that trains; None if there is none."""
        for process in self.descendants():
            try:
                if name in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def kill(self) -> None:
        """Kill the driver and the Ray that it started, at the same time."""
        for process in [self.process, *self.descendants()]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
