"""Counts and messages that all workers of a job send to one Ray actor, and the progress line that shows them. [Ray]"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import ray

from vidclf.errors import ConfigError, RunStopped
from vidclf.progress import ProgressLine

POLL_INTERVAL_S = 0.5
"""Seconds between two updates of the progress line."""


class Observer(Protocol):
    """Interface of an object that receives every report of counts, besides the tally: the Prometheus metrics of a
    job."""

    def observe(self, counts: dict[str, float]) -> None:
        """Receive one report of a worker: numbers by name, each to be added to the total of that name."""


class Tally:
    """Ray actor (a process with state) to which the workers of a job report how much they have finished.

    Its counts are only for display. The summary of a job counts its output files instead.
    """

    @classmethod
    def start(cls, make_observer: Callable[[], Observer] | None = None) -> Any:
        """Start the actor on the cluster and return its handle.

        `make_observer`, if given, is called in the actor and returns the object that also receives all reports.
        """
        return ray.remote(num_cpus=0, max_restarts=-1)(cls).remote(make_observer)

    def __init__(self, make_observer: Callable[[], Observer] | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._observer = make_observer() if make_observer is not None else None
        self._log_lines: list[str] = []
        self._refusal: str | None = None

    def add(self, *reports: dict[str, float]) -> None:
        """Add the counts of every report (numbers by name) to the totals."""
        for counts in reports:
            if self._observer is not None:
                self._observer.observe(counts)
            for name, count in counts.items():
                self._counts[name] += count  # type: ignore[assignment]

    def put(self, name: str, value: float) -> None:
        """Set the total `name` to `value`, instead of adding to it."""
        self._counts[name] = value  # type: ignore[assignment]

    def read(self) -> dict[str, float]:
        """Copy of all totals, by name."""
        return dict(self._counts)

    def say(self, line: str) -> None:
        """Store `line`, a text that the main process of the job prints with its next update of the progress line."""
        self._log_lines.append(line)

    def refuse(self, text: str) -> None:
        """Store `text`, the message of a ConfigError in a worker; the main process of the job then raises the error."""
        self._refusal = text

    def refusal(self) -> str | None:
        """Text of the ConfigError that a worker reported with `refuse`; None if there is none."""
        return self._refusal

    def news(self) -> tuple[dict[str, float], list[str]]:
        """Copy of all totals by name, and the list of texts that workers sent with `say` since the last call."""
        lines, self._log_lines = self._log_lines, []
        return dict(self._counts), lines


@contextmanager
def watch(
    tally: ray.actor.ActorHandle,
    line: ProgressLine,
    show: Callable[[dict[str, float]], tuple[int, str]],
    check: Callable[[dict[str, float]], None] = lambda counts: None,
) -> Iterator[None]:
    """While the `with` block runs, update the progress line `line` from the actor `tally`, and print the workers'
    texts.

    `show` gets the totals and returns the number of finished units and a note for the line. `check` gets the totals and
    may raise RunStopped, which then ends the block.

    The block also ends with RunStopped on the signal SIGTERM (`ray job stop`), and with ConfigError if a worker
    reported one (`ray_cluster.refusals_told`). To be used in the main thread only.
    """
    ended = threading.Event()
    failures: list[RunStopped] = []

    def poll() -> None:
        while not ended.wait(POLL_INTERVAL_S):
            try:
                counts, log_lines = ray.get(tally.news.remote(), timeout=30)
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
                continue  # a busy or restarting actor delays the display, nothing else
            for text in log_lines:
                line.say(text)
            line.update(*show(counts))
            try:
                check(counts)
            except RunStopped as stopped:
                failures.append(stopped)
                signal.raise_signal(signal.SIGTERM)  # the main thread handles it and raises the failure there
                return

    thread = threading.Thread(target=poll, daemon=True)
    with stopped_by_sigterm(failures):
        thread.start()
        try:
            with line:
                yield
        except ray.exceptions.RayError:
            if refusal := ray.get(tally.refusal.remote()):
                raise ConfigError(refusal) from None
            raise
        finally:
            ended.set()
            thread.join()


@contextmanager
def stopped_by_sigterm(failures: Sequence[RunStopped] = ()) -> Iterator[None]:
    """End the `with` block with the exception RunStopped when the signal SIGTERM arrives, as `ray job stop` sends it.

    If `failures` is not empty at that time, its first exception is raised instead. To be used in the main thread only,
    and only after `ray_cluster.connect`, because Ray installs a handler for the signal itself.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise failures[0] if failures else RunStopped(f"stopped by {signal.Signals(number).name}")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
