"""Estimates of a job's percentage and remaining time, from the videos before it."""

from __future__ import annotations

from collections import deque

from vidclf.server.job import WORK, Job, JobState

REMEMBERED = 20
"""Finished videos that an estimate of time is based on."""

STAGE_BEGINS_AT = {JobState.FETCHING: 5.0, JobState.DECODING: 15.0, JobState.CLASSIFYING: 60.0}
"""Percentage at the beginning of a state whose duration is unknown."""

MOST_PERCENT = 99.0
"""Highest percentage of a job that is not done."""


class Pace:
    """Seconds that each working state takes, learnt from the last `REMEMBERED` videos.

    Fetching and decoding are taken as proportional to the size of the video. Classifying is taken as constant, because
    all videos have the same number of frames.
    """

    def __init__(self) -> None:
        self._durations: dict[JobState, deque[tuple[float, float]]] = {
            stage: deque(maxlen=REMEMBERED) for stage in WORK
        }

    def record(self, stage: JobState, seconds: float, size_bytes: int | None) -> None:
        units = self._units(stage, size_bytes)
        if units is not None:
            self._durations[stage].append((seconds, units))

    def expected_s(self, stage: JobState, size_bytes: int | None) -> float | None:
        """Expected seconds of a state; None without earlier videos or without a size."""
        units, durations = self._units(stage, size_bytes), self._durations[stage]
        if not durations or units is None:
            return None
        return units * sum(seconds for seconds, _ in durations) / sum(units for _, units in durations)

    def left_s(self, job: Job, now_s: float) -> float | None:
        """Seconds of work that a job still needs; None if unknown. `now_s` is on the queue's clock."""
        if job.stage.is_end:
            return 0.0
        is_working = job.stage in WORK
        remaining = job.stages[job.stages.index(job.stage) :] if is_working else job.stages
        elapsed_s = now_s - job.stage_began_s if is_working else 0.0
        expected = [self.expected_s(stage, job.size_bytes) for stage in remaining]
        known = [seconds for seconds in expected if seconds is not None]
        return round(max(sum(known) - elapsed_s, 0.0), 1) if len(known) == len(expected) else None

    def percent(self, job: Job, now_s: float) -> float:
        """Percentage of a job that the worker is busy with."""
        expected = {stage: self.expected_s(stage, job.size_bytes) for stage in job.stages}
        return percent_done(job.stages, job.stage, now_s - job.stage_began_s, expected)

    @staticmethod
    def _units(stage: JobState, size_bytes: int | None) -> float | None:
        """The quantity that a state's duration is proportional to."""
        if stage == JobState.CLASSIFYING:
            return 1.0
        return None if size_bytes is None else float(max(size_bytes, 1))


def percent_done(
    stages: tuple[JobState, ...], stage: JobState, elapsed_s: float, expected: dict[JobState, float | None]
) -> float:
    """Percentage of the expected time that has passed: the states before `stage`, and `elapsed_s` of `stage`."""
    known = [expected[one] for one in stages]
    if None in known:
        return STAGE_BEGINS_AT[stage]
    seconds = [float(value) for value in known if value is not None]
    at = stages.index(stage)
    done = sum(seconds[:at]) + min(elapsed_s, seconds[at])
    return min(100 * done / max(sum(seconds), 1e-9), MOST_PERCENT)
