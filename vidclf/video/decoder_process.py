"""Decoding in a child process, so that no video can cost more than its own row.

FFmpeg's decoders are native code fed by strangers: they can crash, hang or eat memory, and no
exception handler sees that. Here they run in a child with a deadline for each video and a cap on
its memory; a child that dies or overstays is replaced, and the video gets a reason. Frames come
back through memory that both processes map; nothing has a name in the file system, so nothing is
left behind, and the kernel ends the child when its parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np

from vidclf.schema import RejectReason
from vidclf.video.decode import DecodedVideo, Transform, decode_video
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

START_TIMEOUT_S = 180.0

START_ATTEMPTS = 3
"""Starts of a child, one after another, before it is the machine's fault: the kernel ends processes
where memory is short, and a job does not end for one of them."""

MAX_TIMEOUT_PER_VIDEO_S = 6 * 3600.0
"""The most that a video's duration adds to its deadline, in seconds."""

KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a child that something else ended: the kernel where memory is short, or a person."""

DELETION_POLL_S = 0.25
"""Seconds between two looks at whether a video's file is still there."""

_PR_SET_PDEATHSIG = 1

_M_TRIM_THRESHOLD = -1

_M_MMAP_THRESHOLD = -3


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What a video may cost before it is given up."""

    timeout_s: float = 60.0
    """seconds for a video, to which `timeout_per_video_s` adds once its duration is known"""
    timeout_per_video_s: float = 1.0
    """further seconds for each second of the video's duration"""
    memory_bytes: int = 2 * 1024**3
    """memory the child may allocate for decoding, over what it takes to start"""
    video_bytes: int = 64 * 1024**3
    """size of a file above which it is not opened"""
    videos_per_child: int = 500
    """videos after which the child is replaced, so that leaks in native code stay bounded"""
    stops_when_deleted: bool = False
    """give a video up as soon as its local file is deleted: how a server cancels one"""


class DecoderStartError(RuntimeError):
    """The child process cannot even start: the fault of the machine or the installation, not of a
    video, and so nothing to put into quarantine."""


class _KilledUnheardError(Exception):
    """The child was killed from outside before it sent any message about the video."""


class SupervisedDecoder:
    """`decode_video` in a child process. One per decode worker; not for use from several threads."""

    def __init__(self, plan: SamplingPlan, transform: Transform, frame_bytes: int, limits: DecodeLimits) -> None:
        """`frame_bytes` is the size of one transformed frame."""
        self._request = pickle.dumps((plan, transform, limits.video_bytes))
        self._limits = limits
        self._size = plan.num_frames * frame_bytes
        self._memory_fd = os.memfd_create("vidclf-frames")
        os.ftruncate(self._memory_fd, self._size)
        self._memory = mmap.mmap(self._memory_fd, self._size)
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._num_decoded = 0

    def decode(self, uri: str, seed: str) -> DecodedVideo:
        """As `decode_video`; raises VideoRejected also for what the child did not survive.

        A video whose child was killed from outside before the child sent any message is decoded once more, in
        what is left of its time: it cannot be the video's fault.
        """
        started = time.monotonic()
        try:
            return self._decode(uri, seed, spent_s=0.0)
        except _KilledUnheardError:
            try:
                return self._decode(uri, seed, spent_s=time.monotonic() - started)
            except _KilledUnheardError as again:
                raise VideoRejected(RejectReason.DECODER_CRASHED, f"the decoder process {again}, twice") from again

    def _decode(self, uri: str, seed: str, spent_s: float) -> DecodedVideo:
        """One attempt, after `spent_s` seconds of the video's time."""
        # One that died between two videos, as the kernel ends processes where memory is short, is no
        # fault of the next video.
        has_died = self._child is not None and self._child.poll() is not None
        if has_died or self._num_decoded >= self._limits.videos_per_child:
            self.close()
        connection = self._connection if self._connection is not None and self._is_ready else self._start()
        self._num_decoded += 1
        started = time.monotonic() - spent_s
        allowed_s = self._limits.timeout_s
        has_answered = False
        try:
            connection.send((uri, seed))
            while True:
                if not self._poll(connection, uri, started + allowed_s):
                    self._kill()
                    raise VideoRejected(RejectReason.DECODE_TIMEOUT, f"no result within {allowed_s:.0f} s")
                kind, content = connection.recv()
                has_answered = True
                if kind == "duration_s":
                    # A damaged file may claim to last for centuries.
                    allowed_s += min(content * self._limits.timeout_per_video_s, MAX_TIMEOUT_PER_VIDEO_S)
                elif kind == "rejected":
                    raise VideoRejected(*content)
                else:
                    return self._copied(*content)
        except (EOFError, ConnectionError) as error:
            code = self._kill()
            if code in KILLED_FROM_OUTSIDE and not has_answered:
                raise _KilledUnheardError(_ended(code)) from error
            raise VideoRejected(RejectReason.DECODER_CRASHED, f"the decoder process {_ended(code)}") from error

    def _poll(self, connection: Connection, uri: str, deadline: float) -> bool:
        """Whether the child has sent a message by `deadline`. VideoRejected where the file is deleted meanwhile
        and the limits say that this ends its decoding."""
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
        """Have the child start without waiting for it, which the first video does."""
        if self._child is None:
            self._spawn()

    @property
    def child_pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def close(self) -> None:
        """End the child; the next video starts another."""
        self._kill()

    def _copied(self, video: DecodedVideo, shape: tuple[int, ...]) -> DecodedVideo:
        # Copied out, because the next video overwrites the shared memory.
        num_bytes = int(np.prod(shape))
        frames = np.frombuffer(self._memory, dtype=np.uint8, count=num_bytes).reshape(shape).copy()
        return replace(video, frames_THWC=frames)

    def _start(self) -> Connection:
        for _ in range(START_ATTEMPTS):
            connection = self._connection if self._connection is not None else self._spawn()
            try:
                self._is_ready = connection.poll(START_TIMEOUT_S) and connection.recv() == "ready"
            except (EOFError, ConnectionError):
                self._is_ready = False
            if self._is_ready:
                return connection
            code = self._kill()
        raise DecoderStartError(f"the decoder process could not start, {START_ATTEMPTS} times: it {_ended(code)}")

    def _spawn(self) -> Connection:
        """A child that is going to be ready, or not."""
        ours, theirs = socket.socketpair()
        command = [
            sys.executable,
            "-c",
            "import sys; from vidclf.video.decoder_process import serve; serve(*map(int, sys.argv[1:]))",
            *map(str, (theirs.fileno(), self._memory_fd, self._size, self._limits.memory_bytes, os.getpid())),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # One thread a decoder and one decoder a core, in the transform's kernels as in FFmpeg.
            "OMP_NUM_THREADS": "1",
        }
        self._child = subprocess.Popen(
            command, pass_fds=(theirs.fileno(), self._memory_fd), env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        connection = Connection(ours.detach())
        self._connection = connection
        self._num_decoded = 0
        # One that has ended already is found out where its answer is waited for.
        with contextlib.suppress(ConnectionError):
            connection.send_bytes(self._request)
        return connection

    def _kill(self) -> int | None:
        """End the child; its exit code, negative for the signal that ended it, None where there was no child."""
        child, connection = self._child, self._connection
        self._child = self._connection = None
        self._is_ready = False
        if connection is not None:
            connection.close()
        if child is None:
            return None
        try:
            # One that crashed is about to be gone; asking first keeps its own signal as the answer.
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None:
            child.kill()
            child.wait()


def _ended(code: int | None) -> str:
    """The words for a child's exit code."""
    if code is None:
        return "was not running"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def serve(socket_fd: int, memory_fd: int, size: int, memory_bytes: int, parent: int) -> None:
    """The child: decode what is asked for until the parent hangs up."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)  # it died before the kernel knew to tell us
    # Interrupts are the parent's to handle; it ends this process when it stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(socket_fd)
    memory = mmap.mmap(memory_fd, size)
    plan, transform, max_bytes = pickle.loads(connection.recv_bytes())
    keep_freed_memory()
    if isinstance(transform, FrameTransforms):
        transform.warm_up()
    _cap_memory(memory_bytes)
    connection.send("ready")
    while True:
        try:
            uri, seed = connection.recv()
        except EOFError:
            return
        try:
            video = decode_video(uri, plan, transform, seed, lambda s: connection.send(("duration_s", s)), max_bytes)
        except VideoRejected as rejected:
            connection.send(("rejected", (rejected.reason, rejected.message)))
            continue
        frames = np.ascontiguousarray(video.frames_THWC)
        memory[: frames.nbytes] = frames.reshape(-1).data
        connection.send(("ok", (replace(video, frames_THWC=np.empty((0, 0, 0, 3), np.uint8)), frames.shape)))


def _cap_memory(memory_bytes: int) -> None:
    """Let this process allocate `memory_bytes` more than it has now.

    RLIMIT_DATA counts private writable memory, which is what decoding allocates; the address space
    (RLIMIT_AS) of a process with torch in it says nothing.
    """
    with open("/proc/self/status") as status:
        data_kib = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    limit = data_kib * 1024 + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def keep_freed_memory() -> None:
    """Have malloc reuse freed frames instead of giving them back to the kernel, which clears every
    page that it hands out again: a tenth of the time of a short video."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 1024**2)  # the most that glibc takes
        libc.mallopt(_M_TRIM_THRESHOLD, 1024**3)
