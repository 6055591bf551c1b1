"""Trying again what remote storage failed at: a busy server or a lost connection is no fault of a video."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp

from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected

ATTEMPTS = 5

FIRST_WAIT_S = 0.5
"""Before the second attempt; doubled before each further one. 7.5 s in all, well within the deadline that
a video has anyway, and as long as object stores ask for when they throttle."""

JITTER = 0.5
"""Share by which a wait is longer or shorter at random, so that a thousand workers that were turned away
together do not come back together."""

_TRANSIENT_STATUS = (408, 425, 429)

Result = TypeVar("Result")


def with_retries(attempt: Callable[[], Result]) -> Result:
    """The result of `attempt`, called up to `ATTEMPTS` times while it raises what may pass.

    Raises what the last attempt raised, saying how many there were; at once, what will not pass.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except (VideoRejected, OSError, aiohttp.ClientError) as error:
            if not _may_pass(error):
                raise
            if number == ATTEMPTS:
                if isinstance(error, VideoRejected):
                    raise VideoRejected(error.reason, f"{error.message} ({ATTEMPTS} attempts)") from error
                raise OSError(f"{error} ({ATTEMPTS} attempts)") from error
        time.sleep(FIRST_WAIT_S * 2 ** (number - 1) * random.uniform(1 - JITTER, 1 + JITTER))
    raise AssertionError("unreachable")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, VideoRejected) and error.reason != RejectReason.READ_ERROR:
        return False
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    status = _http_status(error)
    return status is None or status >= 500 or status in _TRANSIENT_STATUS


def _http_status(error: BaseException | None) -> int | None:
    """What an HTTP server answered, if that is what an error goes back to."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
