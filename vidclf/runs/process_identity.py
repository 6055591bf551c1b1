"""Identity of a process on a machine: user, boot, start time. Tells whether a lease's process still runs."""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def user() -> str:
    """Name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"


def machine() -> str:
    """Identifier of this boot of the machine and of its namespace of process numbers. Empty if the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None if it has ended."""
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
