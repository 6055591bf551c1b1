"""The line of Ray that is removed from the stderr of a job, and all else that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vidclf.stderr_filter import HOLD_S, pass_on

ROOT = Path(__file__).resolve().parents[2]

HARMLESS = (
    b"[2026-11-27 23:01:19,019 E 2225 2225] core_worker.cc:2465: Actor with class name: "
    b"'MapWorker(MapBatches(DecodeAndEmbed))' and ID: '89088e6d29330166b81bb64e01000000' has constructor arguments in "
    b"the object store and max_restarts > 0. If the arguments in the object store go out of scope or are lost, the "
    b"actor restart will fail. See https://github.com/ray-project/ray/issues/53727 for more details.\n"
)
OTHERS = (
    b"[2026-11-27 23:01:19,019 E 2225 2225] core_worker.cc:2465: Actor 'x' died. See https://github.com for details.\n",
    b"[2026-11-27 23:01:19,019 E 2225 2225] core_worker.cc:900: has constructor arguments in the object store\n",
    b"quoted: " + HARMLESS,
    HARMLESS.rstrip(b"\n") + b" And more.\n",
    b"\n",
    b"\xff\x00 no text\n",
)


def passed_on(*contents: bytes, pause_s: float = 0.0) -> bytes:
    """What comes out of the filter if these contents are written one after the other."""
    (source, into), (out, target) = os.pipe(), os.pipe()
    thread = threading.Thread(target=lambda: (pass_on(source, target), os.close(target)))
    thread.start()
    for content in contents:
        os.write(into, content)
        time.sleep(pause_s)
    os.close(into)
    with open(out, "rb") as stream:
        result = stream.read()
    thread.join()
    os.close(source)
    return result


def test_exactly_the_harmless_line_is_removed() -> None:
    assert passed_on(HARMLESS) == b""
    assert passed_on(b"before\n", HARMLESS, b"after\n") == b"before\nafter\n"
    assert passed_on(HARMLESS.replace(b"] core", b"] (extract.py) core") * 3) == b""
    for other in OTHERS:
        assert passed_on(HARMLESS + other + HARMLESS) == other


@pytest.mark.parametrize("size", [1, 7, 100])
def test_lines_are_recognised_in_pieces_of_any_size(size: int) -> None:
    content = b"".join((HARMLESS, *OTHERS, HARMLESS, b"no line end"))
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert passed_on(*pieces) == b"".join((*OTHERS, b"no line end"))


def test_an_unfinished_line_appears_after_a_moment_and_its_rest_is_not_lost() -> None:
    (source, into), (out, target) = os.pipe(), os.pipe()
    thread = threading.Thread(target=pass_on, args=(source, target))
    thread.start()
    os.write(into, b"password: ")
    assert os.read(out, 100) == b"password: "  # after HOLD_S
    os.write(into, b"wrong\n")
    assert os.read(out, 100) == b"wrong\n"
    os.close(into)
    thread.join()
    for fd in (source, out, target):
        os.close(fd)


def test_a_line_that_comes_too_slowly_is_shown_rather_than_lost() -> None:
    assert passed_on(HARMLESS[:300], HARMLESS[300:], pause_s=HOLD_S * 3) == HARMLESS


JOB = """
import os, signal, sys
sys.path.insert(0, {root!r})
from vidclf import stderr_filter
sys.stderr = stderr_filter.own_stderr()
stderr_filter.start()
stderr_filter.start()
print("of Python", sys.stderr.isatty(), os.fstat(sys.stderr.fileno()).st_ino == os.fstat(2).st_ino, file=sys.stderr)
os.write(2, {harmless!r})
os.write(2, b"of C++\\n" * 1000)
os.write(2, b"the last words")
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("os._exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9), ("os.abort()", -6)],
)
def test_nothing_is_lost_however_the_job_ends(end: str, code: int) -> None:
    program = JOB.format(root=str(ROOT), harmless=HARMLESS, end=end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300, check=False)
    assert done.returncode == code
    lines = done.stderr.split(b"\n")
    assert lines.count(b"of Python False False") == 1
    assert lines.count(b"of C++") == 1000
    assert lines[-1] == b"the last words"
    assert len(lines) == 1002


def test_a_signal_to_the_group_of_the_job_does_not_end_the_filter() -> None:
    program = JOB.format(root=str(ROOT), harmless=HARMLESS, end="os.killpg(0, signal.SIGTERM)")
    job = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, process_group=0)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == -signal.SIGTERM
    assert errors.count(b"of C++\n") == 1000
    assert errors.endswith(b"the last words")
