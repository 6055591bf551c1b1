"""States of a server job, and estimates of its percentage and remaining time."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

REMEMBERED = 20
"""Finished videos that an estimate of time rests on."""


class JobState(StrEnum):
    """Where a job is, in this order; the last two are its ends."""

    QUEUED = "queued"
    FETCHING = "fetching"
    DECODING = "decoding"
    CLASSIFYING = "classifying"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED)


WORK = (JobState.FETCHING, JobState.DECODING, JobState.CLASSIFYING)


class Pace:
    """Seconds that stages take, learnt from the videos before. Fetching and decoding are taken to go with a
    video's size, classifying not to, since all videos have as many frames."""

    def __init__(self) -> None:
        self._seen: dict[JobState, deque[tuple[float, float]]] = {stage: deque(maxlen=REMEMBERED) for stage in WORK}

    def record(self, stage: JobState, seconds: float, size_bytes: int | None) -> None:
        units = self._units(stage, size_bytes)
        if units is not None:
            self._seen[stage].append((seconds, units))

    def expected_s(self, stage: JobState, size_bytes: int | None) -> float | None:
        """None where nothing tells yet."""
        units, seen = self._units(stage, size_bytes), self._seen[stage]
        if not seen or units is None:
            return None
        return units * sum(seconds for seconds, _ in seen) / sum(units for _, units in seen)

    @staticmethod
    def _units(stage: JobState, size_bytes: int | None) -> float | None:
        return 1.0 if stage == JobState.CLASSIFYING else (None if size_bytes is None else float(max(size_bytes, 1)))


STAGE_BEGINS_AT = {JobState.FETCHING: 5.0, JobState.DECODING: 15.0, JobState.CLASSIFYING: 60.0}
"""Percent at which a stage begins where nothing tells how long it takes."""

MOST_PERCENT = 99.0
"""What a job shows at most before it is done."""


def percent_done(
    stages: tuple[JobState, ...], stage: JobState, elapsed_s: float, expected: dict[JobState, float | None]
) -> float:
    """Percent of the expected time that is over: the stages before `stage`, and `elapsed_s` of it."""
    known = [expected[one] for one in stages]
    if None in known:
        return STAGE_BEGINS_AT[stage]
    seconds = [float(value) for value in known if value is not None]
    at = stages.index(stage)
    done = sum(seconds[:at]) + min(elapsed_s, seconds[at])
    return min(100 * done / max(sum(seconds), 1e-9), MOST_PERCENT)
