"""The server's queue of videos: waiting, being classified, and finished.

Everything is in memory and bounded. The queue's length limits the waiting videos; `finished_jobs.py` limits the
finished ones. One thread takes jobs and advances them. Any number of threads may read them.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidclf.server.finished_jobs import FinishedJobs
from vidclf.server.job import WORK, Job, JobState
from vidclf.server.job_estimates import Pace
from vidclf.server.refusals import Problem, Reason, Refused, problem


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """Progress of a job that has not ended."""

    percent: float
    eta_s: float | None
    """estimated seconds until the job is done; None if unknown"""
    position: int | None
    """number of videos ahead of this one, including the one being classified; None once the worker has begun this
    one"""


class JobQueue:
    """Queue in which at most `capacity` videos wait for the worker; finished jobs are kept for `keep_s` seconds."""

    def __init__(
        self,
        capacity: int,
        keep_s: float,
        discard: Callable[[str], None] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty queue. It calls `discard` with the path of each video that is no longer needed.

        `clock` returns the current time in seconds.
        """
        self._capacity, self._discard, self._clock = capacity, discard, clock
        self._changed = threading.Condition()
        self._active: dict[str, Job] = {}
        """jobs that have not ended, by id"""
        self._finished = FinishedJobs(keep_s)
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._is_closed = False
        self._pace = Pace()

    # Called by the threads that answer requests.

    def is_full(self) -> bool:
        """Whether the queue takes no more videos for now."""
        with self._changed:
            return len(self._waiting) >= self._capacity

    def submit(
        self, name: str, *, path: str | None = None, uri: str | None = None, size_bytes: int | None = None
    ) -> Job:
        """Add an uploaded video (`path`) or a video to fetch (`uri`) and return its job.

        From now on the queue deletes its file. A video takes a place when its upload is complete, not during the
        upload. Raises Refused (queue_full, stopping).
        """
        with self._changed:
            if self._is_closed:
                raise Refused(Problem.STOPPING)
            if len(self._waiting) >= self._capacity:
                raise Refused(Problem.QUEUE_FULL)
            job = Job(id=secrets.token_urlsafe(16), name=name, path=path, uri=uri, size_bytes=size_bytes)
            self._active[job.id] = job
            self._waiting.append(job)
            self._set_stage(job, JobState.QUEUED)
            return job

    def cancel(self, job_id: str) -> Job:
        """End a waiting or running job as `cancelled`, or forget a finished one. Returns the job.

        Deleting the job's file stops the decoder. Raises Refused (unknown_job).
        """
        with self._changed:
            job = self.find(job_id)
            if job.stage.is_end:
                self._finished.remove(job)
                return job
            if job in self._waiting:
                self._waiting.remove(job)
                self._announce_positions()
            self._fail(job, Problem.CANCELLED)
            return job

    def find(self, job_id: str) -> Job:
        """Job with the id `job_id`. Raises Refused (unknown_job), also for a finished job that is no longer kept."""
        with self._changed:
            self._finished.drop_old(self._clock())
            job = self._active.get(job_id) or self._finished.find(job_id)
            if job is None:
                raise Refused(Problem.UNKNOWN_JOB)
            return job

    def wait_for_change(self, job: Job, version: int, timeout_s: float) -> None:
        """Wait until `job` has a later version than `version` (number of changes), but at most `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: job.version > version or self._is_closed, timeout_s)

    def describe(self, job: Job) -> dict[str, Any]:
        """Dict of a job as the HTTP API shows it: state, percentage, remaining time, and its result or error."""
        with self._changed:
            description: dict[str, Any] = {"id": job.id, "name": job.name, "stage": job.stage.value}
            if job.stage == JobState.DONE:
                return {**description, "percent": 100.0, "eta_s": 0.0, "result": job.result}
            if job.stage == JobState.FAILED:
                assert job.reason is not None
                return {**description, "percent": 100.0, "eta_s": 0.0, "error": problem(job.reason)}
            status = self._status(job)
            job.shown_percent = max(job.shown_percent, round(status.percent, 1))
            description |= {"percent": job.shown_percent, "eta_s": status.eta_s}
            return description if status.position is None else {**description, "position": status.position}

    @property
    def is_closed(self) -> bool:
        """Whether the queue was closed for good."""
        return self._is_closed

    def lengths(self) -> dict[str, int]:
        """Numbers of videos: `waiting` in the queue, and `running` (0 or 1) at the worker."""
        with self._changed:
            return {"waiting": len(self._waiting), "running": int(bool(self._current))}

    # Called by the worker's thread.

    def take(self, timeout_s: float) -> Job | None:
        """Remove the first waiting job and return it; waits up to `timeout_s` seconds for one.

        Returns None after that time, or if the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed, timeout_s)
            self._finished.drop_old(self._clock())
            if self._is_closed or not self._waiting:
                return None
            self._current = self._waiting.popleft()
            self._announce_positions()
            return self._current

    def enter(self, job: Job, stage: JobState) -> None:
        """Move a job on to the state `stage` and record the duration of the previous state.

        Raises Refused if the job was cancelled.
        """
        with self._changed:
            self._check_wanted(job)
            self._record_duration(job)
            self._set_stage(job, stage)

    def is_at(self, job: Job, path: str, size_bytes: int | None = None) -> None:
        """Record the path, and the size if it is known, of the file that a video is fetched into.

        If the job was cancelled, deletes the file and raises Refused.
        """
        with self._changed:
            if job.stage.is_end:
                self._discard(path)
            self._check_wanted(job)
            job.path, job.size_bytes = path, size_bytes

    def is_wanted(self, job: Job) -> bool:
        """Whether the worker should continue with the job; False once it was cancelled or has ended otherwise."""
        return not job.stage.is_end

    def finish(self, job: Job, result: dict[str, Any]) -> None:
        """End the job that the worker has classified, with its result. A cancelled job ignores the result."""
        with self._changed:
            self._current = None
            if not job.stage.is_end:
                self._record_duration(job)
                job.result = result
                self._end(job, JobState.DONE)

    def fail(self, job: Job, reason: Reason) -> Reason:
        """End the worker's job as failed, for `reason`.

        Returns the reason that counts: the first one that ended the job, such as a cancellation.
        """
        with self._changed:
            self._current = None
            if not job.stage.is_end:
                self._fail(job, reason)
            return job.reason or reason

    def close(self) -> None:
        """End all waiting and running jobs as `stopping` and wake all waiting threads.

        After this no job is taken or submitted any more.
        """
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            for job in list(self._active.values()):
                self._fail(job, Problem.STOPPING)
            self._changed.notify_all()

    # Called under the lock.

    def _set_stage(self, job: Job, stage: JobState) -> None:
        job.stage, job.stage_began_s = stage, self._clock()
        job.version += 1
        self._changed.notify_all()

    def _record_duration(self, job: Job) -> None:
        if job.stage in WORK:
            self._pace.record(job.stage, self._clock() - job.stage_began_s, job.size_bytes)

    def _fail(self, job: Job, reason: Reason) -> None:
        job.reason = reason
        self._end(job, JobState.FAILED)

    def _end(self, job: Job, stage: JobState) -> None:
        # The video is deleted first: a client that sees the result may rely on that.
        if job.path is not None:
            self._discard(job.path)
        job.ended_s = self._clock()
        self._set_stage(job, stage)
        del self._active[job.id]
        self._finished.add(job)
        self._finished.drop_old(job.ended_s)

    def _check_wanted(self, job: Job) -> None:
        if job.stage.is_end:
            raise Refused(job.reason or Problem.CANCELLED)

    def _announce_positions(self) -> None:
        """Wake the threads that wait for a change, because the positions of all waiting jobs have changed."""
        for job in self._waiting:
            job.version += 1
        self._changed.notify_all()

    def _status(self, job: Job) -> JobStatus:
        now_s = self._clock()
        left_s = self._pace.left_s(job, now_s)
        if job.stage != JobState.QUEUED:
            return JobStatus(percent=self._pace.percent(job, now_s), eta_s=left_s, position=None)
        jobs_ahead = [
            *([self._current] if self._current else []),
            *itertools.takewhile(lambda other: other is not job, self._waiting),
        ]
        waits_s = [self._pace.left_s(other, now_s) for other in jobs_ahead]
        known = [wait_s for wait_s in [left_s, *waits_s] if wait_s is not None]
        eta_s = round(sum(known), 1) if len(known) == 1 + len(waits_s) else None
        return JobStatus(percent=0.0, eta_s=eta_s, position=len(jobs_ahead))
