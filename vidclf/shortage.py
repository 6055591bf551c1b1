"""A lack of disk space or memory that ended a job, recognized in the exception that it caused."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exceeded quota."""

_OUT_OF_MEMORY = re.compile(
    r"killed due to the node running low on memory\. "
    r"Memory on the node \(IP: (?P<node>[^,)]+).*?\) was (?P<used>[\d.]+)GB used / (?P<limit>[\d.]+)GB limit"
)
"""What Ray 2.60 says when it has killed workers because a machine's memory was almost used up."""


@dataclass(frozen=True)
class Shortage:
    """What a machine had too little of."""

    what: str
    """a clause that states it"""
    remedy: str
    """what the user can do, as an imperative"""


def shortage(error: BaseException) -> Shortage | None:
    """The shortage that caused `error`, here or in the worker process from which it came; None if none did."""
    for cause in _causes(error):
        text = str(cause)
        # A worker's error arrives as text, and Arrow's errors contain the system's error number in their text only.
        if (isinstance(cause, OSError) and cause.errno in _FULL) or any(
            os.strerror(number) in text for number in _FULL
        ):
            return Shortage(what=f"the disk is full ({_last_line(text)})", remedy="free some space")
        if found := _OUT_OF_MEMORY.search(text):
            return Shortage(
                what=f"machine {found['node']} ran low on memory ({found['used']} of {found['limit']} GB in use by all "
                "programs), so Ray killed workers of the job",
                remedy="end other programs there, or run fewer workers",
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, its cause (or the exception while which it was raised), the cause of that, and so on."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _last_line(text: str) -> str:
    """Last line of `text` that is not empty. In an error from a Ray worker the lines above it are a traceback."""
    return (text.strip().splitlines() or ["no message"])[-1].strip()
