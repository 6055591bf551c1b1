"""Filter that removes one harmless line of Ray's C++ code from the stderr of a job, and nothing else.

Ray Data puts the constructor arguments of its worker pools into the object store. Ray warns of that with one line per
pool, in every run, although the driver owns these arguments for as long as the pool lives. Ray has no setting for this
line alone: silencing it there would silence all its errors.

C++ code writes to file descriptor 2. `start` puts a pipe there, and a small process that passes everything on but that
line. It is a process of its own, so that the last words of a job that crashes arrive too. Python's own output does not
go through the pipe: `own_stderr` gives it another descriptor of the same file or terminal.

This file is also the program of that process, and so imports nothing of vidclf.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from typing import TextIO

HARMLESS = re.compile(
    rb"\[[-0-9]+ [0-9:,]+ E \d+ \d+\] (?:\([^)]*\) )?core_worker\.cc:\d+: Actor [^\n]*"
    rb"has constructor arguments in the object store and max_restarts > 0\. If the arguments in the object store go "
    rb"out of scope or are lost, the actor restart will fail\. "
    rb"See https://github\.com/ray-project/ray/issues/53727 for more details\.\r?"
)
"""The line that is removed, without its end."""

HOLD_S = 0.2
"""Seconds for which an unfinished line is held back, since its rest may tell that it is the harmless one. A prompt or a
progress bar without a line end thus still appears."""

_own: TextIO | None = None
"""The stream of `own_stderr`; None before it was called."""

_process: subprocess.Popen[bytes] | None = None
"""The process that filters; None before `start`."""


def own_stderr() -> TextIO:
    """A text stream to where stderr goes now, on a file descriptor of its own, for Python's own output.

    If Python's stderr does not write to file descriptor 2, as in tests that capture it, it is returned as it is.
    """
    global _own
    encoding = sys.stderr.encoding
    if sys.stderr is not sys.__stderr__:
        return sys.stderr
    if _own is None:
        # Written line by line, as Python's stderr is.
        _own = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors="backslashreplace")
    return _own


def start() -> None:
    """Filter what is written to file descriptor 2, until this process and all that inherited the descriptor have ended.

    Does nothing unless Python's own output has left that descriptor (`own_stderr`), as in every job.
    """
    global _process
    if _own is None or _process is not None:
        return
    source, pipe = os.pipe()
    # A process group of its own: signals to the group of the job would end it before the job has said its last words.
    _process = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=source, stdout=2, process_group=0)
    os.close(source)
    os.dup2(pipe, 2)
    os.close(pipe)


def pass_on(source: int, target: int) -> None:
    """Copy the bytes of file descriptor `source` to `target` until it is closed, without the lines of `HARMLESS`."""
    # The start of an unfinished line that is held back, and whether an earlier start of that line was shown.
    held, is_begun = b"", False
    while True:
        is_ready = bool(select.select([source], [], [], HOLD_S if held else None)[0])
        content = os.read(source, 65536) if is_ready else b""
        *lines, held = (held + content).split(b"\n")
        for line in lines:
            if is_begun or HARMLESS.fullmatch(line) is None:
                _write(target, line + b"\n")
            is_begun = False
        if held and (is_begun or not content):
            _write(target, held)
            held, is_begun = b"", True
        if is_ready and not content:
            return


def _write(target: int, content: bytes) -> None:
    while content:
        content = content[os.write(target, content) :]


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    pass_on(0, 1)
