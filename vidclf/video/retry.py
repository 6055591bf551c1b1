"""Retries of failed reads from remote storage: a busy server or a lost connection is not the video's fault."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp

from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected

ATTEMPTS = 5
"""Calls of a function that keeps failing, the first one included."""

FIRST_WAIT_S = 0.5
"""Wait before the second attempt, in seconds; it doubles before each further attempt.

The waits add up to 7.5 s: well within the deadline of a video, and as long as object stores require when they
throttle."""

JITTER = 0.5
"""Largest random change of a wait, as a share of it.

Without it, a thousand workers that a server refused at once would all return at once."""

_TRANSIENT_STATUS = (408, 425, 429)

Result = TypeVar("Result")


def with_retries(attempt: Callable[[], Result]) -> Result:
    """Return the result of `attempt`, which is called up to `ATTEMPTS` times while it fails transiently.

    Raises the error of the last attempt, with the number of attempts in its message. A permanent error is
    raised at once.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except (VideoRejected, OSError, aiohttp.ClientError) as error:
            if not _is_transient(error):
                raise
            if number == ATTEMPTS:
                if isinstance(error, VideoRejected):
                    raise VideoRejected(error.reason, f"{error.message} ({ATTEMPTS} attempts)") from error
                raise OSError(f"{error} ({ATTEMPTS} attempts)") from error
        time.sleep(FIRST_WAIT_S * 2 ** (number - 1) * random.uniform(1 - JITTER, 1 + JITTER))
    raise AssertionError("unreachable")


def _is_transient(error: BaseException) -> bool:
    """Return whether another attempt may succeed after `error`."""
    if isinstance(error, VideoRejected) and error.reason != RejectReason.READ_ERROR:
        return False
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    status = _http_status(error)
    return status is None or status >= 500 or status in _TRANSIENT_STATUS


def _http_status(error: BaseException | None) -> int | None:
    """Return the HTTP status that caused an error; None if no HTTP response caused it."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
