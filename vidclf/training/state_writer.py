"""Saved states of a training, written by a separate thread, and only as often as writing takes little of the time.

A saved state may be some epochs old. An epoch depends only on the state before it (`training/member_fit.py`), so a
training that continues from an old state repeats those epochs with the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from vidclf.training.member_state import Snapshot

WRITING_SHARE = 1 / 20
"""Largest share of the training time spent on writing states, not counting states written by `StateWriter.write`."""


class StateWriter:
    """Writer of a training's states, which calls `publish` on a separate thread.

    `offer` writes a state only if the last write took at most WRITING_SHARE of the time since that write began. An
    error in `publish` is raised by the next call, or at the end of the `with` block unless that ends with another
    error.
    """

    def __init__(self, publish: Callable[[Snapshot], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._publish, self._clock = publish, clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._writing: Future[float] | None = None
        """the last write of a state; its result is the time that the write took, in seconds"""
        self._begun_s = 0.0

    def offer(self, take: Callable[[], Snapshot]) -> bool:
        """Write the state that `take` returns, unless the last write is too recent. Returns whether the state is being
        written."""
        is_due = self._writing is None or (
            self._writing.done() and self._clock() >= self._begun_s + self._writing.result() / WRITING_SHARE
        )
        if is_due:
            self._begin(take)
        return is_due

    def write(self, take: Callable[[], Snapshot]) -> None:
        """Write the state that `take` returns, in any case, and wait until it is written."""
        self.wait()
        self._begin(take)
        self.wait()

    def wait(self) -> None:
        """Wait until the last state is written."""
        if self._writing is not None:
            self._writing.result()

    def _begin(self, take: Callable[[], Snapshot]) -> None:
        """Start to write the state that `take` returns, on the separate thread."""
        self._begun_s = self._clock()
        self._writing = self._pool.submit(self._write, take(), self._begun_s)

    def _write(self, snapshot: Snapshot, begun_s: float) -> float:
        """Write a state with `publish`; returns the seconds since `begun_s`."""
        self._publish(snapshot)
        return self._clock() - begun_s

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()
