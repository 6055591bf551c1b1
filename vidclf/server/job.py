"""A job of the server: one video, its state and its result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vidclf.server.refusals import Reason


class JobState(StrEnum):
    """State of a job, in this order. The last two are final."""

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
"""The states in which the worker is busy with a job."""


@dataclass(kw_only=True)
class Job:
    """One video and its progress. Only its queue changes it, under the queue's lock."""

    id: str
    """random; anyone who has it may read the result"""
    name: str
    """the client's name for the video, for display"""
    path: str | None
    """path of the upload; None for a video that is yet to be fetched"""
    uri: str | None = None
    size_bytes: int | None = None
    """None before a video is fetched"""
    stage: JobState = JobState.QUEUED
    stage_began_s: float = 0.0
    """seconds on the queue's clock"""
    ended_s: float = 0.0
    """seconds on the queue's clock"""
    shown_percent: float = 0.0
    """highest percentage shown so far: a better estimate must not move progress back"""
    version: int = 0
    """number of changes, so that a listener misses none"""
    result: dict[str, Any] | None = None
    reason: Reason | None = None

    @property
    def stages(self) -> tuple[JobState, ...]:
        """The working states of this video: an upload is not fetched."""
        return WORK if self.uri is not None else WORK[1:]
