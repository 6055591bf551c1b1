"""The videos that a server has taken on: waiting in line, being classified, and done for a while.

Everything is in memory and bounded: those waiting by the queue's length, those done by their number and
their age. One thread takes jobs and moves them on; any number may look at them.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vidclf.server.job_estimates import WORK, JobState, Pace, percent_done
from vidclf.server.refusals import Problem, Reason, Refused, problem

MAX_FINISHED = 64
"""Results that are kept at a time, of some 100 KB each; the oldest make way."""


@dataclass(kw_only=True)
class Job:
    """A video and how far it is. Changed by its queue alone, under the queue's lock."""

    id: str
    """random: who has it may see the result"""
    name: str
    """what the client calls the video, for display"""
    path: str | None
    """where the upload is; None for a video that is to be fetched"""
    uri: str | None = None
    size_bytes: int | None = None
    """None before a video is fetched"""
    stage: JobState = JobState.QUEUED
    stage_began_s: float = 0.0
    """on the queue's clock"""
    ended_s: float = 0.0
    shown_percent: float = 0.0
    """the most that has been said, since a better estimate must not take progress back"""
    version: int = 0
    """counts the changes, so that who waits for the next one misses none"""
    result: dict[str, Any] | None = None
    reason: Reason | None = None

    @property
    def stages(self) -> tuple[JobState, ...]:
        """The stages that this video goes through."""
        return WORK if self.uri is not None else WORK[1:]


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What is said of a job that is not done."""

    percent: float
    eta_s: float | None
    """seconds until it is done; None where nothing tells yet"""
    position: int | None
    """videos before it, the one being classified included; None once it has begun"""


class JobQueue:
    """At most `capacity` videos wait; results are kept for `keep_s` seconds."""

    def __init__(
        self,
        capacity: int,
        keep_s: float,
        discard: Callable[[str], None] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`discard` is called with the path of each video that is done with."""
        self._capacity, self._keep_s, self._discard, self._clock = capacity, keep_s, discard, clock
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._num_reserved = 0
        self._is_closed = False
        self._pace = Pace()

    # What requests do.

    def is_full(self) -> bool:
        with self._changed:
            return len(self._waiting) + self._num_reserved >= self._capacity

    def reserve(self) -> Reservation:
        """A place in the queue while a video is still coming in. Raises Refused where there is none."""
        with self._changed:
            if self._is_closed or len(self._waiting) + self._num_reserved >= self._capacity:
                raise Refused(Problem.QUEUE_FULL)
            self._num_reserved += 1
        return Reservation(self)

    def find(self, job_id: str) -> Job:
        """Raises Refused where there is no such job, or none any more."""
        with self._changed:
            self._forget()
            if job_id not in self._jobs:
                raise Refused(Problem.UNKNOWN_JOB)
            return self._jobs[job_id]

    def wait_for_change(self, job: Job, version: int, timeout_s: float) -> None:
        """Return when `job` is past `version`, or after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: job.version > version or self._is_closed, timeout_s)

    def describe(self, job: Job) -> dict[str, Any]:
        """A job as an answer tells of it."""
        with self._changed:
            told: dict[str, Any] = {"id": job.id, "name": job.name, "stage": job.stage.value}
            if job.stage == JobState.DONE:
                return {**told, "percent": 100.0, "eta_s": 0.0, "result": job.result}
            if job.stage == JobState.FAILED:
                assert job.reason is not None
                return {**told, "percent": 100.0, "eta_s": 0.0, "error": problem(job.reason)}
            progress = self._progress(job)
            job.shown_percent = max(job.shown_percent, round(progress.percent, 1))
            told |= {"percent": job.shown_percent, "eta_s": progress.eta_s}
            return told if progress.position is None else {**told, "position": progress.position}

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def lengths(self) -> dict[str, int]:
        """Videos by where they are."""
        with self._changed:
            return {"waiting": len(self._waiting), "arriving": self._num_reserved, "running": int(bool(self._current))}

    # What the one who works does.

    def take(self, timeout_s: float) -> Job | None:
        """The next job, as soon as there is one; None after `timeout_s`, or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed, timeout_s)
            self._forget()
            if self._is_closed or not self._waiting:
                return None
            self._current = self._waiting.popleft()
            for job in self._waiting:
                job.version += 1  # each has moved up
            self._changed.notify_all()
            return self._current

    def enter(self, job: Job, stage: JobState) -> None:
        """The job begins `stage`; what the one before took is remembered."""
        with self._changed:
            self._end_stage(job)
            self._set(job, stage)

    def is_at(self, job: Job, path: str, size_bytes: int | None = None) -> None:
        """Where the video of a job comes to be, and how big it turned out."""
        with self._changed:
            job.path, job.size_bytes = path, size_bytes

    def finish(self, job: Job, result: dict[str, Any]) -> None:
        with self._changed:
            self._end_stage(job)
            job.result = result
            self._end(job, JobState.DONE)

    def fail(self, job: Job, reason: Reason) -> None:
        with self._changed:
            job.reason = reason
            self._end(job, JobState.FAILED)

    def close(self) -> None:
        """Wake everyone; nothing is taken or begun any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # Under the lock.

    def _set(self, job: Job, stage: JobState) -> None:
        job.stage, job.stage_began_s = stage, self._clock()
        job.version += 1
        self._changed.notify_all()

    def _end_stage(self, job: Job) -> None:
        if job.stage in WORK:
            self._pace.record(job.stage, self._clock() - job.stage_began_s, job.size_bytes)

    def _end(self, job: Job, stage: JobState) -> None:
        # The video first: whoever sees the result may count on it.
        if job.path is not None:
            self._discard(job.path)
        job.ended_s = self._clock()
        self._current = None
        self._set(job, stage)
        self._forget()

    def _forget(self) -> None:
        """Drop results that are too old or too many."""
        finished = [job for job in self._jobs.values() if job.stage.is_end]
        finished.sort(key=lambda job: job.ended_s)
        too_many = len(finished) - MAX_FINISHED
        for index, job in enumerate(finished):
            if index < too_many or self._clock() - job.ended_s > self._keep_s:
                del self._jobs[job.id]

    def _progress(self, job: Job) -> JobStatus:
        left = self._left_s(job)
        if job.stage != JobState.QUEUED:
            expected = {stage: self._pace.expected_s(stage, job.size_bytes) for stage in job.stages}
            elapsed_s = self._clock() - job.stage_began_s
            return JobStatus(
                percent=percent_done(job.stages, job.stage, elapsed_s, expected), eta_s=left, position=None
            )
        before = [
            *([self._current] if self._current else []),
            *itertools.takewhile(lambda j: j is not job, self._waiting),
        ]
        waits = [self._left_s(other) for other in before]
        known = [wait for wait in [left, *waits] if wait is not None]
        eta_s = round(sum(known), 1) if len(known) == 1 + len(waits) else None
        return JobStatus(percent=0.0, eta_s=eta_s, position=len(before))

    def _left_s(self, job: Job) -> float | None:
        """Seconds of work that a job has left."""
        begun = job.stages.index(job.stage) if job.stage in WORK else 0
        elapsed_s = self._clock() - job.stage_began_s if job.stage in WORK else 0.0
        expected = [self._pace.expected_s(stage, job.size_bytes) for stage in job.stages[begun:]]
        known = [seconds for seconds in expected if seconds is not None]
        return round(max(sum(known) - elapsed_s, 0.0), 1) if len(known) == len(expected) else None

    # For Reservation.

    def _cancel(self) -> None:
        with self._changed:
            self._num_reserved -= 1

    def _submit(self, name: str, path: str | None, uri: str | None, size_bytes: int | None) -> Job:
        job = Job(id=secrets.token_urlsafe(16), name=name, path=path, uri=uri, size_bytes=size_bytes)
        with self._changed:
            self._num_reserved -= 1
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._set(job, JobState.QUEUED)
        return job


@dataclass
class Reservation:
    """A place in the queue, given up unless a job is submitted into it."""

    _queue: JobQueue
    _is_used: bool = field(default=False)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._is_used:
            self._is_used = True
            self._queue._cancel()

    def submit(
        self, name: str, *, path: str | None = None, uri: str | None = None, size_bytes: int | None = None
    ) -> Job:
        """Put the video in line; from now on the queue sees to its file."""
        self._is_used = True
        return self._queue._submit(name, path, uri, size_bytes)
