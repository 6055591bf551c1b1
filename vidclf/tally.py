"""Counts and messages of all workers of a job, gathered in one Ray actor and shown as a progress line. [Ray]"""

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
    """Receiver of every report of counts, such as the Prometheus metrics of a pipeline."""

    def observe(self, counts: dict[str, float]) -> None:
        """Take one report: counts to add, by name."""


class Tally:
    """Actor in which workers count their finished work.

    The counts are for display only: the results of a job are counted from its files.
    """

    @classmethod
    def start(cls, make_observer: Callable[[], Observer] | None = None) -> Any:
        """Start the actor and return its handle; `make_observer` is called in the actor."""
        return ray.remote(num_cpus=0, max_restarts=-1)(cls).remote(make_observer)

    def __init__(self, make_observer: Callable[[], Observer] | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._observer = make_observer() if make_observer is not None else None
        self._log_lines: list[str] = []
        self._refusal: str | None = None

    def add(self, *reports: dict[str, float]) -> None:
        """Add the counts of each report to the totals."""
        for counts in reports:
            if self._observer is not None:
                self._observer.observe(counts)
            for name, count in counts.items():
                self._counts[name] += count  # type: ignore[assignment]

    def put(self, name: str, value: float) -> None:
        """Set a value, instead of adding to it."""
        self._counts[name] = value  # type: ignore[assignment]

    def read(self) -> dict[str, float]:
        """All totals by name."""
        return dict(self._counts)

    def say(self, line: str) -> None:
        """Send a line to the log of the job."""
        self._log_lines.append(line)

    def refuse(self, text: str) -> None:
        """Report the ConfigError with which a worker ends the job."""
        self._refusal = text

    def refusal(self) -> str | None:
        """The text of the ConfigError that a worker reported; None without one."""
        return self._refusal

    def news(self) -> tuple[dict[str, float], list[str]]:
        """All totals, and the log lines that arrived since the last call."""
        lines, self._log_lines = self._log_lines, []
        return dict(self._counts), lines


@contextmanager
def watch(
    tally: ray.actor.ActorHandle,
    line: ProgressLine,
    show: Callable[[dict[str, float]], tuple[int, str]],
    check: Callable[[dict[str, float]], None] = lambda counts: None,
) -> Iterator[None]:
    """Update the progress line `line` from `tally` while the body runs, and print the log lines of the workers.

    `show` turns the totals into the finished units and a note for the line. `check` sees the totals and may raise
    RunStopped, which then ends the body.

    The body also ends with RunStopped on SIGTERM (`ray job stop`), and with ConfigError if a worker reported one
    (`ray_cluster.refusals_told`). Only for the main thread.
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
    """End the body with RunStopped on SIGTERM, which `ray job stop` sends.

    If `failures` is not empty at that time, its first element is raised instead. Only for the main thread, and only
    after `ray_cluster.connect`, because Ray installs a handler of its own.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise failures[0] if failures else RunStopped(f"stopped by {signal.Signals(number).name}")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
