"""Program of the child process that decodes one video after another for its parent, a `SupervisedDecoder`.

A request from the parent is the pair (location, seed). A reply is the pair (name, content): first `duration_s`, as
soon as the duration is known, then `ok` or `rejected`. The frames are returned through memory that both processes
map.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import resource
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np

from vidclf.video.decode import decode_video
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.rejection import VideoRejected

_PR_SET_PDEATHSIG = 1

_M_TRIM_THRESHOLD = -1

_M_MMAP_THRESHOLD = -3


def serve(socket_fd: int, memory_fd: int, size_bytes: int, memory_bytes: int, parent_pid: int) -> None:
    """Main loop of the child process: decode the videos that the parent requests, until the parent closes the socket.

    `socket_fd`: file descriptor of the socket to the parent. `memory_fd`: descriptor of the shared memory of
    `size_bytes` bytes that receives the frames. `memory_bytes`: memory that decoding may allocate, in addition to
    what the process needs to start. `parent_pid`: process id of the parent, whose death ends this process.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(0)  # the parent died before the kernel was instructed to signal its death
    # Only the parent handles interrupts; it ends this process when it stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(socket_fd)
    memory = mmap.mmap(memory_fd, size_bytes)
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
    """Limit this process to `memory_bytes` more than it has allocated already.

    RLIMIT_DATA counts private writable memory, which is what decoding allocates. RLIMIT_AS would not do:
    the address space of a process that has loaded torch does not reflect its memory use.
    """
    with open("/proc/self/status") as status:
        data_kib = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    limit = data_kib * 1024 + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def keep_freed_memory() -> None:
    """Make malloc reuse the memory of freed frames instead of returning it to the kernel.

    The kernel clears every memory page that it hands out again, which takes a tenth of the decoding time of a short
    video.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # only in glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 1024**2)  # the largest value that glibc accepts
        libc.mallopt(_M_TRIM_THRESHOLD, 1024**3)
