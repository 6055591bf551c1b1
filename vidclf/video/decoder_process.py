"""Decoding in a supervised child process, so that a bad video costs only its own result and not the whole job.

FFmpeg's decoders are native code that reads untrusted files: they can crash, hang or exhaust the memory, and no
exception handler catches that. They run in a child process (`decoder_child`) with a deadline per video and a memory
limit. A child that dies or misses the deadline is replaced, and its video is rejected with a reason. The frames come
back through memory that both processes map. This memory has no name in the file system, so no file is left behind.
The kernel kills the child when its parent dies.

The parent process loads neither PyAV nor the decoding modules.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np

from vidclf.schema import RejectReason
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.frame_transform import Transform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

START_TIMEOUT_S = 180.0

START_ATTEMPTS = 3
"""Failed starts of a child process in a row after which the machine is considered faulty.

The kernel kills processes when memory is short, and one such kill must not end a job.
"""

MAX_TIMEOUT_PER_VIDEO_S = 6 * 3600.0
"""Largest number of seconds by which the deadline of a long video is extended."""

KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a child that was ended from outside: by the kernel when memory is short, or by a person."""

DELETION_POLL_S = 0.25
"""Seconds between two checks that the file of a video still exists."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits on the time, memory and file size of a video, above which it is rejected."""

    timeout_s: float = 60.0
    """decoding time per video in seconds; `timeout_per_video_s` extends it once the duration is known"""
    timeout_per_video_s: float = 1.0
    """further decoding time in seconds per second of the video's duration"""
    memory_bytes: int = 2 * 1024**3
    """bytes of memory that the child process may allocate for decoding, in addition to what it needs to start"""
    video_bytes: int = 64 * 1024**3
    """file size in bytes above which a video is not opened"""
    videos_per_child: int = 500
    """number of videos after which the child process is replaced, so that memory leaks in native code stay bounded"""
    stops_when_deleted: bool = False
    """reject a video as soon as its local file is deleted; this is how a server cancels videos"""


class DecoderStartError(RuntimeError):
    """Error: the child process that decodes videos cannot start.

    The machine or the installation is at fault and not a video, so no video is rejected for it.
    """


class _KilledBeforeMessageError(Exception):
    """Error that leads to a retry: the child process was killed from outside before any message about the video."""


class SupervisedDecoder:
    """Decoder that runs `decode_video` in a child process, within limits on time, memory and file size.

    Every worker that decodes needs its own instance. An instance must not be used by several threads.
    """

    def __init__(self, plan: SamplingPlan, transform: Transform, frame_bytes: int, limits: DecodeLimits) -> None:
        """`plan`: the frames to sample. `transform`: scales and crops each frame.

        `frame_bytes`: bytes of one frame after `transform`. `limits`: bounds above which a video is rejected.
        """
        self._request = pickle.dumps((plan, transform, limits.video_bytes))
        self._limits = limits
        self._size_bytes = plan.num_frames * frame_bytes
        self._memory_fd = os.memfd_create("vidclf-frames")
        os.ftruncate(self._memory_fd, self._size_bytes)
        self._memory = mmap.mmap(self._memory_fd, self._size_bytes)
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._num_decoded = 0

    def decode(self, uri: str, seed: str) -> DecodedVideo:
        """Decode the video at `uri` in the child process, like `decode_video`.

        Raises VideoRejected also if the child crashes, hangs or exhausts its memory, and DecoderStartError if no
        child can be started.

        If the child is killed from outside before it sends any message about the video, the video is decoded once
        more within the time that is left, because the video cannot be the cause.
        """
        started = time.monotonic()
        try:
            return self._decode(uri, seed, spent_s=0.0)
        except _KilledBeforeMessageError:
            try:
                return self._decode(uri, seed, spent_s=time.monotonic() - started)
            except _KilledBeforeMessageError as again:
                raise VideoRejected(RejectReason.DECODER_CRASHED, f"the decoder process {again}, twice") from again

    def _decode(self, uri: str, seed: str, spent_s: float) -> DecodedVideo:
        """Try once to decode a video in the child process.

        `spent_s`: seconds of the video's allowed time that an earlier attempt used up.
        """
        # The kernel may kill the child between two videos when memory is short. That must not cost the next
        # video.
        has_died = self._child is not None and self._child.poll() is not None
        if has_died or self._num_decoded >= self._limits.videos_per_child:
            self.close()
        connection = self._connection if self._connection is not None and self._is_ready else self._start()
        self._num_decoded += 1
        started = time.monotonic() - spent_s
        allowed_s = self._limits.timeout_s
        has_sent_message = False
        try:
            connection.send((uri, seed))
            while True:
                if not self._poll(connection, uri, started + allowed_s):
                    self._kill()
                    raise VideoRejected(RejectReason.DECODE_TIMEOUT, f"no result within {allowed_s:.0f} s")
                kind, content = connection.recv()
                has_sent_message = True
                if kind == "duration_s":
                    # A damaged file may claim a duration of centuries.
                    allowed_s += min(content * self._limits.timeout_per_video_s, MAX_TIMEOUT_PER_VIDEO_S)
                elif kind == "rejected":
                    raise VideoRejected(*content)
                else:
                    return self._with_frames(*content)
        except (EOFError, ConnectionError) as error:
            exit_code = self._kill()
            if exit_code in KILLED_FROM_OUTSIDE and not has_sent_message:
                raise _KilledBeforeMessageError(_exit_text(exit_code)) from error
            message = f"the decoder process {_exit_text(exit_code)}"
            raise VideoRejected(RejectReason.DECODER_CRASHED, message) from error

    def _poll(self, connection: Connection, uri: str, deadline: float) -> bool:
        """Wait for a message from the child process; returns whether one arrives before `deadline`.

        Raises VideoRejected if the video file is deleted meanwhile and the limits include `stops_when_deleted`.
        """
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            if not self._limits.stops_when_deleted:
                return connection.poll(left_s)
            if connection.poll(min(left_s, DELETION_POLL_S)):
                return True
            if not os.path.exists(uri):
                self._kill()
                raise VideoRejected(RejectReason.NOT_FOUND, "its file was deleted while it was decoded")
            if left_s <= 0:
                return False

    def start(self) -> None:
        """Start the child process without waiting until it is ready. The first call of `decode` waits for it."""
        if self._child is None:
            self._spawn()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child process; None if none is running."""
        return self._child.pid if self._child is not None else None

    def close(self) -> None:
        """End the child process. The next call of `decode` starts another one."""
        self._kill()

    def _with_frames(self, video: DecodedVideo, shape: tuple[int, ...]) -> DecodedVideo:
        """Return `video` with its frames, an array of the given shape, copied out of the shared memory.

        They must be copied because the next video overwrites that memory.
        """
        num_bytes = int(np.prod(shape))
        frames = np.frombuffer(self._memory, dtype=np.uint8, count=num_bytes).reshape(shape).copy()
        return replace(video, frames_THWC=frames)

    def _start(self) -> Connection:
        """Start a child process if none is running, and return the connection to it once it is ready."""
        for _ in range(START_ATTEMPTS):
            connection = self._connection if self._connection is not None else self._spawn()
            try:
                self._is_ready = connection.poll(START_TIMEOUT_S) and connection.recv() == "ready"
            except (EOFError, ConnectionError):
                self._is_ready = False
            if self._is_ready:
                return connection
            exit_code = self._kill()
        raise DecoderStartError(
            f"the decoder process could not start, {START_ATTEMPTS} times: it {_exit_text(exit_code)}"
        )

    def _spawn(self) -> Connection:
        """Start a child process, and return the connection to it before the child has reported that it is ready."""
        parent_socket, child_socket = socket.socketpair()
        command = [
            sys.executable,
            "-c",
            "import sys; from vidclf.video.decoder_child import serve; serve(*map(int, sys.argv[1:]))",
            str(child_socket.fileno()),
            *map(str, (self._memory_fd, self._size_bytes, self._limits.memory_bytes, os.getpid())),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # One decoder per core and one thread per decoder, in the transform's kernels and in FFmpeg alike.
            "OMP_NUM_THREADS": "1",
        }
        self._child = subprocess.Popen(
            command, pass_fds=(child_socket.fileno(), self._memory_fd), env=environment, stdin=subprocess.DEVNULL
        )
        child_socket.close()
        connection = Connection(parent_socket.detach())
        self._connection = connection
        self._num_decoded = 0
        # If the child has ended already, the wait for its answer discovers it.
        with contextlib.suppress(ConnectionError):
            connection.send_bytes(self._request)
        return connection

    def _kill(self) -> int | None:
        """End the child process and return its exit code.

        The code is negative for the signal that ended the process, and None if there was no process.
        """
        child, connection = self._child, self._connection
        self._child = self._connection = None
        self._is_ready = False
        if connection is not None:
            connection.close()
        if child is None:
            return None
        try:
            # A child that crashed is about to end. Waiting before the kill preserves the exit code of the crash.
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None:
            child.kill()
            child.wait()


def _exit_text(exit_code: int | None) -> str:
    """Return words that say how a child process ended, such as "exited with code 1", from its exit code."""
    if exit_code is None:
        return "was not running"
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"exited with code {exit_code}"
