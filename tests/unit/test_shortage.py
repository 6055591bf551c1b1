"""Full disks and exhausted memory, recognized in the exceptions that Ray, Arrow and the system raise."""

from __future__ import annotations

import errno

from vidclf.shortage import Shortage, shortage

DISK = "the disk is full ([Errno 28] No space left on device)"


def test_a_full_disk_is_known_by_its_number_and_by_a_workers_text() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert shortage(full) == Shortage(what=DISK, remedy="free some space")
    assert shortage(RuntimeError("ray::write()\n[Errno 28] No space left on device")) == shortage(full)
    outer = ValueError("outer")
    outer.__cause__ = full
    assert shortage(outer) == shortage(full)
    assert shortage(OSError(errno.EACCES, "Permission denied")) is None


def test_workers_that_ray_killed_for_memory_name_the_machine_and_its_use() -> None:
    # The first lines of what Ray 2.60 raised from a training on a busy machine, with another address.
    killed = RuntimeError(
        "Training failed due to controller error:\n12 worker(s) were killed due to the node running low on memory. "
        "Memory on the node (IP: 192.0.2.2, ID: 80d47969) was 22.30GB used / 23.54GB limit (0.947395)\n"
        "OOM kill reason: Memory usage 24022323200B exceeded threshold of 24012259328B"
    )
    assert shortage(killed) == Shortage(
        what="machine 192.0.2.2 ran low on memory (22.30 of 23.54 GB in use by all programs), so Ray killed workers of "
        "the job",
        remedy="end other programs there, or run fewer workers",
    )
    assert shortage(RuntimeError("member 0 ran low on ideas")) is None
