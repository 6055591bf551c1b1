"""A job of the server: one video with its state, its progress and its result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vidclf.server.refusals import Reason


class JobState(StrEnum):
    """State of a job. The states follow each other as listed; `done` and `failed` are both final."""

    QUEUED = "queued"
    FETCHING = "fetching"
    DECODING = "decoding"
    CLASSIFYING = "classifying"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether the state is final."""
        return self in (JobState.DONE, JobState.FAILED)


WORK = (JobState.FETCHING, JobState.DECODING, JobState.CLASSIFYING)
"""States in which the worker is busy with a job."""


@dataclass(kw_only=True)
class Job:
    """One video and its progress. Only the queue that holds the job changes it, under the queue's lock."""

    id: str
    """random text; anyone who has it may read the result"""
    name: str
    """the client's name for the video, for display"""
    path: str | None
    """path of the uploaded file; None for a video that is yet to be fetched"""
    uri: str | None = None
    """location to fetch the video from; None for an upload"""
    size_bytes: int | None = None
    """None before the video is fetched"""
    stage: JobState = JobState.QUEUED
    stage_began_s: float = 0.0
    """time when the current state began, in seconds on the queue's clock"""
    ended_s: float = 0.0
    """time when the job ended, in seconds on the queue's clock"""
    shown_percent: float = 0.0
    """highest percentage shown so far: a better estimate must not move progress back"""
    version: int = 0
    """number of changes of the job, so that a client that listens misses none"""
    result: dict[str, Any] | None = None
    reason: Reason | None = None
    """why the job failed; None if it did not"""

    @property
    def stages(self) -> tuple[JobState, ...]:
        """States in which the worker is busy with this video: an upload is not fetched."""
        return WORK if self.uri is not None else WORK[1:]
