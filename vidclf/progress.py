"""Progress line of a job, with the speed and the remaining time.

On a terminal the line is redrawn in place. Without one, as in a submitted job, a new line is printed at most every 10
seconds.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LOG_INTERVAL_S = 10.0
"""Shortest time in seconds between two printed progress lines where there is no terminal."""


class ProgressLine:
    """Progress line, titled `title`, for a job of `total` units of work, such as videos.

    `unit` is the word for them. `initial` of them were already finished when the job started.
    """

    def __init__(self, title: str, total: int, unit: str, initial: int = 0) -> None:
        self._title, self._total, self._unit, self._initial = title, total, unit, initial
        self._done, self._note = initial, ""
        self._has_begun = False
        self._start = self._printed = time.monotonic()
        self._bar = (
            tqdm(total=total, initial=initial, desc=title, unit=f" {unit}", smoothing=0.1, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` units are finished, counting those from before this job, followed by a short `note`."""
        if done > self._initial and not self._has_begun:
            # The speed counts from the first finished units on. Until then, workers were started.
            self._has_begun, self._initial, self._start = True, done, time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(max(done - self._done, 0))
        elif (done, note) != (self._done, self._note) and time.monotonic() - self._printed >= LOG_INTERVAL_S:
            self._printed = time.monotonic()
            print(self.line(done, note, self._printed - self._start), file=sys.stderr, flush=True)
        self._done, self._note = done, note

    def say(self, text: str) -> None:
        """Print `text` on a line of its own to standard error; on a terminal it appears above the progress line."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def line(self, done: int, note: str, elapsed_s: float) -> str:
        """Text of the progress line: `done` and all units, units per second, remaining time, and `note`.

        `elapsed_s` is the time in seconds since the first units were finished.
        """
        rate = (done - self._initial) / elapsed_s if elapsed_s > 0 else 0.0
        left = f"{(self._total - done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        text = f"{self._title}: {done}/{self._total} {self._unit}, {rate:.2f}/s, {left}"
        return f"{text} ({note})" if note else text

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
