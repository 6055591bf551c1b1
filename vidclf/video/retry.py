"""Retries of failed reads from remote storage: a busy server or a lost connection is not the video's fault."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected

ATTEMPTS = 5
"""Largest number of attempts to read from remote storage, the first one included."""

FIRST_WAIT_S = 0.5
"""Seconds to wait before the second attempt; the wait doubles before each further attempt.

The waits add up to 7.5 s: well within the deadline of a video, and as long as object stores require when they
throttle.
"""

JITTER = 0.5
"""Largest random change of a wait, as a fraction of that wait.

Without it, a thousand workers that a server refused at once would all return at once.
"""

_TRANSIENT_STATUS = (408, 425, 429)

Result = TypeVar("Result")


def with_retries(attempt: Callable[[], Result]) -> Result:
    """Call `attempt` up to `ATTEMPTS` times until it succeeds, with a wait after each failure; returns its result.

    Raises the error of the last attempt, with the number of attempts in its message. An error that another attempt
    cannot mend is raised at once.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except http_errors(VideoRejected, OSError) as error:
            if not _is_transient(error):
                raise
            if number == ATTEMPTS:
                if isinstance(error, VideoRejected):
                    raise VideoRejected(error.reason, f"{error.message} ({ATTEMPTS} attempts)") from error
                raise OSError(f"{error} ({ATTEMPTS} attempts)") from error
        time.sleep(FIRST_WAIT_S * 2 ** (number - 1) * random.uniform(1 - JITTER, 1 + JITTER))
    raise AssertionError("unreachable")


def http_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return `others` and the base class of the HTTP client's errors, for an `except` clause.

    While the client is not loaded nothing can have raised its errors, and it stays unloaded: every decoder process
    would take a quarter of a second to load it, also those that read no video over HTTP.
    """
    # Another thread may be in the middle of loading it.
    error = getattr(sys.modules.get("aiohttp"), "ClientError", None)
    return (*others, error) if error is not None else others


def _is_transient(error: BaseException) -> bool:
    """Return whether a repeated attempt may succeed after `error`, as after a lost connection or a busy server."""
    if isinstance(error, VideoRejected) and error.reason != RejectReason.READ_ERROR:
        return False
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    status = _http_status(error)
    return status is None or status >= 500 or status in _TRANSIENT_STATUS


def _http_status(error: BaseException | None) -> int | None:
    """Return the HTTP status code of the response that caused `error`; None if no HTTP response caused it."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
