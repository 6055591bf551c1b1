"""Facts about processes, and killing several at one moment, for `tests.support.chaos`."""

from __future__ import annotations

import os
from pathlib import Path

from ray.thirdparty_files import psutil  # Ray brings its own copy


def title(process: psutil.Process) -> str:
    """The command line of a process, or the title that it set; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def parent(process: psutil.Process) -> int | None:
    """Process id of the parent; None where the process has ended."""
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return None


def end_together(processes: list[psutil.Process]) -> None:
    """SIGKILL all processes at one moment, like a machine that fails.

    They are stopped first, so that no process can react to the end of another.
    """
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in processes:
            try:
                act(process)
            except psutil.NoSuchProcess:
                if process is processes[0]:
                    raise
    psutil.wait_procs(processes, timeout=10)


def open_videos(process: psutil.Process, folder: Path) -> list[str]:
    """Files below `folder` that a process has open."""
    targets = []
    for descriptor in os.listdir(f"/proc/{process.pid}/fd"):
        targets.append(os.readlink(f"/proc/{process.pid}/fd/{descriptor}"))
    return [target for target in targets if target.startswith(f"{folder}/")]
