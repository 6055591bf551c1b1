"""Identity of a process on a machine: its user, the machine's boot, its start time.

A lease (write lock of a job) stores these facts, from which other jobs find out whether that job's process still runs.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def user() -> str:
    """Name of the user who runs this process, or `user` and the user number if the user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"


def machine() -> str:
    """Text that identifies this boot of the machine and the namespace to which its process numbers belong. Empty if the
    system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> str | None:
    """Start time of the process with number `pid`, in clock ticks since boot, as text; None if no such process runs."""
    try:
        # The process name stands in parentheses and may hold spaces. The state follows it, and 19 fields later the
        # start time (proc(5)).
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if values[0] in "ZX" else values[19]


def is_gone(machine_id: str, pid: int, start: str) -> bool:
    """Whether a process ran in this boot and process namespace and has ended. False if it ran on another machine."""
    return bool(machine_id) and machine_id == machine() and started(pid) != start
