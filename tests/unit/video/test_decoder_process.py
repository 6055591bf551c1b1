"""A video that harms its decoder process costs one row and at most the deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import hostile
from tests.support.hostile import Frame, KilledAtItsStart
from tests.support.videos import read_index, write_video
from vidclf.schema import RejectReason
from vidclf.video.decoder_process import DecodeLimits, DecoderStartError, SupervisedDecoder
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

PLAN = SamplingPlan(num_frames=3)
FRAME_BYTES = 64 * 64 * 3


def decoder(transform: Callable[[Frame], Frame], **limits: float) -> SupervisedDecoder:
    return SupervisedDecoder(PLAN, transform, FRAME_BYTES, DecodeLimits(**limits))  # type: ignore[arg-type]


@pytest.fixture
def video(tmp_path: Path) -> str:
    return str(write_video(tmp_path / "v.mp4", 12))


@pytest.fixture(scope="module")
def keeping() -> Iterator[SupervisedDecoder]:
    """One decoder that decodes as usual, for all tests that need no limits of their own: a child takes a second."""
    supervised = decoder(hostile.keep)
    yield supervised
    supervised.close()


def reason(supervised: SupervisedDecoder, uri: str) -> tuple[RejectReason, str]:
    with pytest.raises(VideoRejected) as rejected:
        supervised.decode(uri, "")
    return rejected.value.reason, rejected.value.message


def test_frames_come_back_whole(keeping: SupervisedDecoder, video: str) -> None:
    first = keeping.decode(video, "")
    second = keeping.decode(video, "")
    assert [read_index(frame) for frame in first.frames_THWC] == [2, 6, 10]
    assert np.array_equal(first.frames_THWC, second.frames_THWC)
    assert first.pts_s.tolist() == pytest.approx([0.2, 0.6, 1.0])


def test_a_video_that_claims_to_last_for_centuries_has_a_deadline_all_the_same(
    keeping: SupervisedDecoder, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "v.mkv", 3, pts_ms=[0, 100, 10**13])
    assert keeping.decode(str(path), "").duration_s > 9e9


def test_a_rejection_passes_through_and_the_child_lives_on(
    keeping: SupervisedDecoder, video: str, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    keeping.decode(video, "")
    child = keeping._child
    assert child is not None
    assert reason(keeping, str(tmp_path / "text.mp4"))[0] == RejectReason.NOT_A_VIDEO
    assert reason(keeping, str(tmp_path / "none.mp4")) == (RejectReason.NOT_FOUND, "no such file")
    assert len(keeping.decode(video, "").frames_THWC) == 3
    assert keeping._child is child


def test_a_child_that_sleeps_for_ever_costs_the_deadline(video: str) -> None:
    supervised = decoder(hostile.sleep_for_ever, timeout_s=1.0, timeout_per_video_s=0.5)
    with pytest.raises(VideoRejected):
        supervised.decode(video, "")  # the first video also starts a child
    started = time.monotonic()
    supervised.close()
    supervised._start()
    started = time.monotonic()
    # 1 s, and half a second per second of the video, which lasts 1.2 s.
    assert reason(supervised, video) == (RejectReason.DECODE_TIMEOUT, "no result within 2 s")
    assert 1.5 < time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("transform", "signal_name"),
    [(hostile.abort, "SIGABRT"), (hostile.segfault, "SIGSEGV"), (hostile.be_killed, "SIGKILL")],
)
def test_a_crash_is_one_rejection(video: str, transform: Callable[[Frame], Frame], signal_name: str) -> None:
    expected = (RejectReason.DECODER_CRASHED, f"the decoder process was ended by {signal_name}")
    assert reason(decoder(transform), video) == expected


def test_after_a_crash_the_next_video_is_decoded(video: str, tmp_path: Path) -> None:
    wide = str(write_video(tmp_path / "wide.mp4", 12, size=(64, 32)))
    supervised = decoder(hostile.hostile_when_wide)
    assert reason(supervised, wide)[0] == RejectReason.DECODER_CRASHED
    assert [read_index(frame) for frame in supervised.decode(video, "").frames_THWC] == [2, 6, 10]
    supervised.close()


def test_a_child_that_died_between_two_videos_costs_neither(keeping: SupervisedDecoder, video: str) -> None:
    keeping.decode(video, "")
    assert keeping._child is not None
    keeping._child.kill()
    keeping._child.wait()
    assert len(keeping.decode(video, "").frames_THWC) == 3


def test_a_child_that_was_killed_at_its_start_is_started_again(video: str, tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.touch()
    supervised = decoder(KilledAtItsStart(str(once)))
    assert len(supervised.decode(video, "").frames_THWC) == 3
    assert not once.exists()
    supervised.close()


def kill_while_stopped(supervised: SupervisedDecoder, delay_s: float = 0.3) -> None:
    """Stop the child of a decoder, and kill it after `delay_s`, so that it never reads its next video."""
    supervised._start()
    pid = supervised.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(delay_s, os.kill, (pid, signal.SIGKILL)).start()


def test_a_child_killed_before_its_first_message_does_not_cost_its_video(video: str) -> None:
    supervised = decoder(hostile.keep)
    kill_while_stopped(supervised)
    assert len(supervised.decode(video, "").frames_THWC) == 3
    supervised.close()


def test_a_video_is_decoded_once_more_and_not_for_ever(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    supervised = decoder(hostile.keep)
    start, starts = supervised._start, []

    def start_and_be_killed() -> Any:
        connection = start()
        starts.append(supervised.child_pid)
        os.kill(supervised.child_pid or 0, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (supervised.child_pid, signal.SIGKILL)).start()
        return connection

    monkeypatch.setattr(supervised, "_start", start_and_be_killed)
    expected = (RejectReason.DECODER_CRASHED, "the decoder process was ended by SIGKILL, twice")
    assert reason(supervised, video) == expected
    assert len(starts) == 2


def test_a_second_attempt_has_what_the_first_has_left_of_the_deadline(video: str) -> None:
    supervised = decoder(hostile.sleep_for_ever, timeout_s=10.0, timeout_per_video_s=0.0)
    supervised._start()
    started = time.monotonic()
    with pytest.raises(VideoRejected, match="no result within 10 s"):
        supervised._decode(video, "", spent_s=9.5)
    assert time.monotonic() - started < 5


def test_deleting_its_file_ends_the_decoding_of_a_video(video: str) -> None:
    supervised = decoder(hostile.sleep_for_ever, stops_when_deleted=True)
    supervised._start()
    threading.Timer(0.3, os.remove, (video,)).start()
    started = time.monotonic()
    expected = (RejectReason.NOT_FOUND, "its file was deleted while it was decoded")
    assert reason(supervised, video) == expected
    assert time.monotonic() - started < 5
    assert supervised.child_pid is None


def test_memory_without_end_is_refused_to_the_child(video: str) -> None:
    supervised = decoder(hostile.allocate_without_end, memory_bytes=300 * 1024**2)
    assert reason(supervised, video)[0] == RejectReason.OUT_OF_MEMORY


def test_the_child_is_replaced_after_its_share_of_videos(video: str) -> None:
    supervised = decoder(hostile.keep, videos_per_child=2)
    children = []
    for _ in range(3):
        supervised.decode(video, "")
        children.append(supervised._child)
    assert children[0] is children[1]
    assert children[1] is not children[2]
    supervised.close()


def test_a_child_that_cannot_start_is_no_fault_of_a_video(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DecoderStartError, match="could not start, 3 times: it exited with code 1"):
        decoder(hostile.keep).decode(video, "")


def test_the_child_dies_with_its_parent(video: str) -> None:
    script = (
        "import os, sys, time\n"
        "from tests.unit.video.test_decoder_process import decoder, hostile\n"
        "supervised = decoder(hostile.keep)\n"
        f"supervised.decode({video!r}, '')\n"
        "print(supervised._child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_childs_command_line_names_its_module(keeping: SupervisedDecoder, video: str) -> None:
    """Benchmarks and the chaos test find decoder processes by it."""
    keeping.decode(video, "")
    with open(f"/proc/{keeping.child_pid}/cmdline") as command:
        assert "vidclf.video.decoder_child" in command.read()


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("vidclf.video.decoder_process, vidclf.video.frame_transform", "'torch', 'av', 'cv2'"),
        ("vidclf.video.decoder_child", "'torch', 'aiohttp', 'ray', 'pandas', 'scipy'"),
    ],
)
def test_neither_parent_nor_child_loads_what_local_videos_do_not_need(modules: str, heavy: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, {modules}; print([name for name in ({heavy}) if name in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.getcwd(),
    )
    assert done.stdout == "[]\n"
