"""The videos that a server has taken on: waiting in line, being classified, and done for a while.

Everything is in memory and bounded: those waiting by the queue's length, those done by their number and
their age. Failures have a bound of their own, so that no number of them costs a result. One thread takes
jobs and moves them on; any number may look at them.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidclf.server.job_estimates import WORK, JobState, Pace, percent_done
from vidclf.server.refusals import Problem, Reason, Refused, problem

MAX_FINISHED = 64
"""Results that are kept at a time, of some 100 KB each; the oldest make way."""

MAX_FAILED = 256
"""Failures that are kept at a time, of some 100 bytes each; they make way for each other, never a result for them."""


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
        self._is_closed = False
        self._pace = Pace()

    # What requests do.

    def is_full(self) -> bool:
        with self._changed:
            return len(self._waiting) >= self._capacity

    def submit(
        self, name: str, *, path: str | None = None, uri: str | None = None, size_bytes: int | None = None
    ) -> Job:
        """Put a video in line that has arrived, or is to be fetched; from now on the queue sees to its file.

        Raises Refused where there is no place: a video takes one when it is here, not while it is on its way.
        """
        with self._changed:
            if self._is_closed:
                raise Refused(Problem.STOPPING)
            if len(self._waiting) >= self._capacity:
                raise Refused(Problem.QUEUE_FULL)
            job = Job(id=secrets.token_urlsafe(16), name=name, path=path, uri=uri, size_bytes=size_bytes)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._set(job, JobState.QUEUED)
            return job

    def cancel(self, job_id: str) -> Job:
        """End a job that waits or is worked on as `cancelled`, and forget one that has ended.

        Deleting its file is what stops the decoding. Raises Refused where there is no such job.
        """
        with self._changed:
            job = self.find(job_id)
            if job.stage.is_end:
                del self._jobs[job.id]
                return job
            if job in self._waiting:
                self._waiting.remove(job)
                self._move_up()
            job.reason = Problem.CANCELLED
            self._end(job, JobState.FAILED)
            return job

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
            return {"waiting": len(self._waiting), "running": int(bool(self._current))}

    # What the one who works does.

    def take(self, timeout_s: float) -> Job | None:
        """The next job, as soon as there is one; None after `timeout_s`, or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed, timeout_s)
            self._forget()
            if self._is_closed or not self._waiting:
                return None
            self._current = self._waiting.popleft()
            self._move_up()
            return self._current

    def enter(self, job: Job, stage: JobState) -> None:
        """The job begins `stage`; what the one before took is remembered. Raises Refused where it was cancelled."""
        with self._changed:
            self._check_wanted(job)
            self._end_stage(job)
            self._set(job, stage)

    def is_at(self, job: Job, path: str, size_bytes: int | None = None) -> None:
        """Where the video of a job comes to be, and how big it turned out. Raises Refused, and the file is gone,
        where the job was cancelled."""
        with self._changed:
            if job.stage.is_end:
                self._discard(path)
            self._check_wanted(job)
            job.path, job.size_bytes = path, size_bytes

    def is_wanted(self, job: Job) -> bool:
        """Whether somebody still waits for the result."""
        return not job.stage.is_end

    def finish(self, job: Job, result: dict[str, Any]) -> None:
        """The worker is done with a job; its result counts unless the job was cancelled meanwhile."""
        with self._changed:
            self._current = None
            if not job.stage.is_end:
                self._end_stage(job)
                job.result = result
                self._end(job, JobState.DONE)

    def fail(self, job: Job, reason: Reason) -> Reason:
        """The worker gives a job up; the reason that counts, which is that of who ended it first."""
        with self._changed:
            self._current = None
            if not job.stage.is_end:
                job.reason = reason
                self._end(job, JobState.FAILED)
            return job.reason or reason

    def close(self) -> None:
        """End what is not done as `stopping` and wake everyone; nothing is taken or begun any more."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            for job in list(self._jobs.values()):
                if not job.stage.is_end:
                    job.reason = Problem.STOPPING
                    self._end(job, JobState.FAILED)
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
        self._set(job, stage)
        self._forget()

    def _check_wanted(self, job: Job) -> None:
        if job.stage.is_end:
            raise Refused(job.reason or Problem.CANCELLED)

    def _move_up(self) -> None:
        for job in self._waiting:
            job.version += 1
        self._changed.notify_all()

    def _forget(self) -> None:
        """Drop results and failures that are too old, and those of each that are too many."""
        for stage, most in ((JobState.DONE, MAX_FINISHED), (JobState.FAILED, MAX_FAILED)):
            ended = [job for job in self._jobs.values() if job.stage == stage]
            ended.sort(key=lambda job: job.ended_s)
            for index, job in enumerate(ended):
                if index < len(ended) - most or self._clock() - job.ended_s > self._keep_s:
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
        if job.stage.is_end:
            return 0.0
        begun = job.stages.index(job.stage) if job.stage in WORK else 0
        elapsed_s = self._clock() - job.stage_began_s if job.stage in WORK else 0.0
        expected = [self._pace.expected_s(stage, job.size_bytes) for stage in job.stages[begun:]]
        known = [seconds for seconds in expected if seconds is not None]
        return round(max(sum(known) - elapsed_s, 0.0), 1) if len(known) == len(expected) else None
