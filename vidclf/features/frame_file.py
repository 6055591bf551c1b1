"""The features of all frames of a feature set in one file on the local disk.

All processes of a machine map the same file into memory. The operating system keeps as much of it in memory as there is
room for, so that a feature set may be larger than the memory, and members that train in parallel share one copy.

Shape suffixes: N frames of all videos, T frames of a video, D features.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.private_folder import PrivateFolder

Halves = npt.NDArray[np.float16]

PREFIX = "vidclf-features-"
"""Beginning of the names of the folders that hold such a file."""

FILE = "frames.f16"
"""Name of the file in its folder: the float16 values [N, D] in row-major order, without a header."""

POLL_S = 0.2
"""Seconds between two looks whether another process has finished the copy of this machine."""

_opened: weakref.WeakValueDictionary[str, FrameFile] = weakref.WeakValueDictionary()
"""The files that this process has mapped, by path. The splits of a training arrive one by one and share a mapping."""


class FrameFile:
    """A file with the features of all frames, mapped into memory for reading.

    Pickled, it is the path of the file and the shards that it was made from. A process on the same machine maps the
    same file. A process on another machine reads the shards, and makes its own copy. The process that made a copy
    deletes it when it no longer uses it; other processes may still use their mapping after that.
    """

    def __init__(self, path: str, shards: list[str], feature_dim: int, folder: PrivateFolder | None = None) -> None:
        self.path = path
        self.shards = shards
        self.feature_dim = feature_dim
        values = np.memmap(path, np.float16, mode="r").reshape(-1, feature_dim)
        self.frames_ND: Halves = np.asarray(values)
        """features of the frames of all videos, one video after the other; to be read only"""
        if folder is not None:
            weakref.finalize(self, folder.close)

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (self.path, self.shards, self.feature_dim, len(self.frames_ND))


class FrameFileWriter:
    """Writer of a `FrameFile`, to which the videos are added one after the other.

    `what` names the features in messages. The file is made in `folder`, by default a new one. Raises ConfigError if the
    temporary directory is not writable or too small.
    """

    def __init__(self, what: str, folder: PrivateFolder | None = None) -> None:
        self._what = what
        self._folder = folder or PrivateFolder(PREFIX, purpose="features")
        self._path = os.path.join(self._folder.path, FILE)
        self._file: IO[bytes] = open(f"{self._path}.new", "wb")  # noqa: SIM115 - closed by `finish`
        self._feature_dim = 0
        self._num_frames = 0

    def add(self, rows_TD: Halves) -> int:
        """Write the features of a video; returns the number of its first frame."""
        start, self._feature_dim = self._num_frames, rows_TD.shape[1]
        self._file.write(np.ascontiguousarray(rows_TD, np.float16).data)
        self._num_frames += len(rows_TD)
        return start

    def check_space(self, num_videos: int, total_videos: int) -> None:
        """Raise ConfigError if the disk has no room for all videos, judged by the `num_videos` that are written."""
        written = self._file.tell()
        needed = written / max(num_videos, 1) * (total_videos - num_videos)
        free = shutil.disk_usage(self._folder.path).free
        if needed > free:
            self.close()
            raise ConfigError(
                f"{self._what}: takes about {(written + needed) / 1e9:.1f} GB on the disk of the temporary directory "
                f"{os.path.dirname(self._folder.path)!r}, which has {(written + free) / 1e9:.1f} GB free; TMPDIR names "
                "another one"
            )

    def finish(self, shards: list[str]) -> FrameFile:
        """The finished file. `shards` are the files of features that hold the same videos in the same order. At least
        one video must have been added."""
        self._file.close()
        os.rename(f"{self._path}.new", self._path)
        file = FrameFile(self._path, shards, self._feature_dim, self._folder)
        _opened[file.path] = file
        return file

    def close(self) -> None:
        """Delete the unfinished file."""
        self._file.close()
        self._folder.close()


def shared(path: str, shards: list[str], feature_dim: int, num_frames: int) -> FrameFile:
    """The file at `path` if this machine has it, otherwise a copy that is made from the shards.

    Raises ConfigError if the shards no longer hold `num_frames` frames.
    """
    file = _opened.get(path)
    if file is not None:
        return file
    try:
        file = FrameFile(path, shards, feature_dim)
    except OSError:  # the file of another machine, or of another user
        file = _copied(os.path.basename(os.path.dirname(path)), shards, feature_dim)
    if file.frames_ND.shape != (num_frames, feature_dim):
        raise ConfigError(
            f"{shards[0]} and others: must hold {num_frames} frames as before, hold {len(file.frames_ND)}"
        )
    _opened[path] = file
    return file


def _copied(name: str, shards: list[str], feature_dim: int) -> FrameFile:
    """The copy of this machine, made from the shards by the first process that needs it. Others wait for it."""
    folder_name = f"{name.removeprefix(PREFIX)}-copy"
    while True:
        try:
            return FrameFile(os.path.join(tempfile.gettempdir(), PREFIX + folder_name, FILE), shards, feature_dim)
        except FileNotFoundError:
            pass
        try:
            folder = PrivateFolder(PREFIX, purpose="features", name=folder_name)
        except BlockingIOError:  # another process is making it
            time.sleep(POLL_S)
            continue
        writer = FrameFileWriter(f"{os.path.dirname(shards[0])} (features)", folder)
        try:
            for table in storage.iter_tables(shards, ["features"]):
                for row in table["features"]:
                    writer.add(features_TD(row))
        except BaseException:
            writer.close()
            raise
        return writer.finish(shards)
