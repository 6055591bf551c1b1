"""Estimates of a job's percentage and remaining time, from the durations of the videos before it."""

from __future__ import annotations

from collections import deque

from vidclf.server.job import WORK, Job, JobState

REMEMBERED = 20
"""Number of finished videos from which durations are estimated."""

STAGE_BEGINS_AT = {JobState.FETCHING: 5.0, JobState.DECODING: 15.0, JobState.CLASSIFYING: 60.0}
"""Percentage that a job shows throughout a state if durations are unknown."""

MOST_PERCENT = 99.0
"""Highest percentage of a job that is not done."""


class Pace:
    """Estimator of the seconds that each working state takes, from the last `REMEMBERED` videos.

    Fetching and decoding are taken as proportional to the size of the video. Classifying is taken as constant, because
    all videos have the same number of frames.
    """

    def __init__(self) -> None:
        self._durations: dict[JobState, deque[tuple[float, float]]] = {
            stage: deque(maxlen=REMEMBERED) for stage in WORK
        }

    def record(self, stage: JobState, seconds: float, size_bytes: int | None) -> None:
        """Remember that the state `stage` took `seconds` for a video of `size_bytes`."""
        units = self._units(stage, size_bytes)
        if units is not None:
            self._durations[stage].append((seconds, units))

    def expected_s(self, stage: JobState, size_bytes: int | None) -> float | None:
        """Expected seconds of the state `stage` for a video; None without earlier videos or without its size."""
        units, durations = self._units(stage, size_bytes), self._durations[stage]
        if not durations or units is None:
            return None
        return units * sum(seconds for seconds, _ in durations) / sum(units for _, units in durations)

    def left_s(self, job: Job, now_s: float) -> float | None:
        """Seconds of work that a job still needs; None if unknown. `now_s` is the time on the queue's clock."""
        if job.stage.is_end:
            return 0.0
        is_working = job.stage in WORK
        remaining = job.stages[job.stages.index(job.stage) :] if is_working else job.stages
        elapsed_s = now_s - job.stage_began_s if is_working else 0.0
        expected = [self.expected_s(stage, job.size_bytes) for stage in remaining]
        known = [seconds for seconds in expected if seconds is not None]
        return round(max(sum(known) - elapsed_s, 0.0), 1) if len(known) == len(expected) else None

    def percent(self, job: Job, now_s: float) -> float:
        """Percentage of the work that is done for a job at the worker. `now_s` is the time on the queue's clock."""
        expected = {stage: self.expected_s(stage, job.size_bytes) for stage in job.stages}
        return percent_done(job.stages, job.stage, now_s - job.stage_began_s, expected)

    @staticmethod
    def _units(stage: JobState, size_bytes: int | None) -> float | None:
        """Number to which the duration of the state `stage` is proportional: 1 for classifying, else the video's size.

        None if the size is unknown.
        """
        if stage == JobState.CLASSIFYING:
            return 1.0
        return None if size_bytes is None else float(max(size_bytes, 1))


def percent_done(
    stages: tuple[JobState, ...], stage: JobState, elapsed_s: float, expected: dict[JobState, float | None]
) -> float:
    """Percentage of a job's expected time that has passed, when it is in the state `stage` for `elapsed_s` seconds.

    `stages` are all working states of the job, and `expected` has their expected seconds. If one of these is unknown,
    the percentage is the fixed one of `STAGE_BEGINS_AT`.
    """
    known = [expected[one] for one in stages]
    if None in known:
        return STAGE_BEGINS_AT[stage]
    seconds = [float(value) for value in known if value is not None]
    at = stages.index(stage)
    done = sum(seconds[:at]) + min(elapsed_s, seconds[at])
    return min(100 * done / max(sum(seconds), 1e-9), MOST_PERCENT)
