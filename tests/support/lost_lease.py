"""A job whose output another job has taken over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vidclf.runs import lease, lease_storage


@contextmanager
def lost_lease(output: str) -> Iterator[None]:
    """Hold the lease of `output`, but let another job take it over before the body runs. Raises LeaseLost at the end of
    a body that fails."""
    with lease.held([lease.Output(location=output)], "first.py"):
        claim = replace(lease._claim("second.py"), owner="f" * 32)
        assert lease_storage.place(output).acquire(claim, lambda other: True) is None
        yield
