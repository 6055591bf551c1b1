"""Transforms that crash, hang or exhaust the memory of their process, like faulty native decoders.

They are in a module of their own, because the decoder's child process imports them.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


def keep(frame_HWC: Frame) -> Frame:
    return frame_HWC


def sleep_for_ever(frame_HWC: Frame) -> Frame:
    time.sleep(3600)
    return frame_HWC


def abort(frame_HWC: Frame) -> Frame:
    os.abort()


def be_killed(frame_HWC: Frame) -> Frame:
    os.kill(os.getpid(), signal.SIGKILL)
    return frame_HWC


def segfault(frame_HWC: Frame) -> Frame:
    os.kill(os.getpid(), signal.SIGSEGV)
    return frame_HWC


def allocate_without_end(frame_HWC: Frame) -> Frame:
    arrays = []
    while True:
        arrays.append(np.ones(64 * 1024**2, np.uint8))


def hostile_when_wide(frame_HWC: Frame) -> Frame:
    """Kill the process at a frame that is wider than high."""
    return be_killed(frame_HWC) if frame_HWC.shape[1] > frame_HWC.shape[0] else frame_HWC


class KilledAtItsStart:
    """A transform that kills the process that unpickles it, once: only if the file `flag` exists, which it deletes."""

    def __init__(self, flag: str) -> None:
        self._flag = flag

    def __setstate__(self, state: dict[str, str]) -> None:
        self._flag = state["_flag"]
        if os.path.exists(self._flag):
            os.unlink(self._flag)
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, frame_HWC: Frame) -> Frame:
        return frame_HWC
