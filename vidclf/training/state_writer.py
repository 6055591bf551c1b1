"""Writing the state of a training as often as it is cheap, beside the training.

An epoch depends on the state before it alone (`learning/fit.py`), so a state may be some epochs old: whoever takes it
up trains these again, and they come out the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from vidclf.training.member_state import Snapshot

WRITING_SHARE = 1 / 20
"""Most of the time that is spent on writing states, where no state must be written at a given epoch."""


class StateWriter:
    """Publishes snapshots of a training on a thread of its own.

    The next one is taken when the last one has cost no more than WRITING_SHARE of the time since its begin. An error
    in `publish` is raised by the next call, and by leaving the `with` block where that is not for another error.
    """

    def __init__(self, publish: Callable[[Snapshot], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._publish, self._clock = publish, clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._writing: Future[float] | None = None
        """the seconds that the last one took, when it has ended"""
        self._begun_s = 0.0

    def offer(self, take: Callable[[], Snapshot]) -> bool:
        """Take and write a snapshot if it is time for one; whether it was."""
        is_due = self._writing is None or (
            self._writing.done() and self._clock() >= self._begun_s + self._writing.result() / WRITING_SHARE
        )
        if is_due:
            self._begin(take)
        return is_due

    def write(self, take: Callable[[], Snapshot]) -> None:
        """Take a snapshot, and wait until it is written."""
        self.wait()
        self._begin(take)
        self.wait()

    def wait(self) -> None:
        """Until what was taken is written."""
        if self._writing is not None:
            self._writing.result()

    def _begin(self, take: Callable[[], Snapshot]) -> None:
        self._begun_s = self._clock()
        self._writing = self._pool.submit(self._write, take(), self._begun_s)

    def _write(self, snapshot: Snapshot, begun_s: float) -> float:
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
