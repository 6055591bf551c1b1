"""Counts from all workers of a job in one Ray actor, and the progress line that shows them. [Ray]"""

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


class Observer(Protocol):
    """Something that wants to know of every count as it comes."""

    def observe(self, counts: dict[str, float]) -> None: ...


class Tally:
    """Counts that workers add to while they work, as an actor. For display only: results are
    counted from the files."""

    @classmethod
    def start(cls, make_observer: Callable[[], Observer] | None = None) -> Any:
        """A handle on a new actor; `make_observer` is called in it."""
        return ray.remote(num_cpus=0, max_restarts=-1)(cls).remote(make_observer)

    def __init__(self, make_observer: Callable[[], Observer] | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._observer = make_observer() if make_observer is not None else None
        self._said: list[str] = []
        self._refusal: str | None = None

    def add(self, *reports: dict[str, float]) -> None:
        for counts in reports:
            if self._observer is not None:
                self._observer.observe(counts)
            for name, count in counts.items():
                self._counts[name] += count  # type: ignore[assignment]

    def put(self, name: str, value: float) -> None:
        self._counts[name] = value  # type: ignore[assignment]

    def read(self) -> dict[str, float]:
        return dict(self._counts)

    def say(self, line: str) -> None:
        """A line for the log of the job."""
        self._said.append(line)

    def refuse(self, text: str) -> None:
        """Why a worker cannot do what it was configured for, of which its error ends the job."""
        self._refusal = text

    def refusal(self) -> str | None:
        return self._refusal

    def news(self) -> tuple[dict[str, float], list[str]]:
        """The counts, and the lines since this was last asked."""
        said, self._said = self._said, []
        return dict(self._counts), said


@contextmanager
def watch(
    tally: ray.actor.ActorHandle,
    line: ProgressLine,
    show: Callable[[dict[str, float]], tuple[int, str]],
    check: Callable[[dict[str, float]], None] = lambda counts: None,
) -> Iterator[None]:
    """Keep `line` up to date from `tally` while the body runs, and print what workers say; `show` gives
    units done and a note.

    The body ends with RunStopped on SIGTERM (`ray job stop`), with what `check` raises of it, and with ConfigError
    where a worker ended with one (`refusals_told`). For the main thread only.
    """
    ended = threading.Event()
    found: list[RunStopped] = []

    def poll() -> None:
        while not ended.wait(POLL_INTERVAL_S):
            try:
                counts, said = ray.get(tally.news.remote(), timeout=30)
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
                continue  # a busy or restarting actor delays the display, nothing else
            for text in said:
                line.say(text)
            line.update(*show(counts))
            try:
                check(counts)
            except RunStopped as stopped:
                found.append(stopped)
                signal.raise_signal(signal.SIGTERM)  # which is always the main thread's to handle
                return

    thread = threading.Thread(target=poll, daemon=True)
    with stopped_by_sigterm(found):
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
def stopped_by_sigterm(found: Sequence[RunStopped] = ()) -> Iterator[None]:
    """End the body with RunStopped on SIGTERM (`ray job stop`), the first of `found` if there is one. For the
    main thread only, and after `connect`, because Ray puts its own handler in place."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise found[0] if found else RunStopped(f"stopped by {signal.Signals(number).name}")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
