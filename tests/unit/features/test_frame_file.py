"""Files of all frames' features: one copy per machine, which ends with its last use."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features import frame_file
from vidclf.features.columns import features_column
from vidclf.features.frame_file import FrameFile, FrameFileWriter
from vidclf.features.video_frames import VideoFrames

VIDEOS = [np.array([[0, 1], [2, 3]], np.float16), np.array([[4, 5]], np.float16)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Two files of features with one video each."""
    locations = [str(tmp_path / f"part-{number}.parquet") for number in range(2)]
    for location, video in zip(locations, VIDEOS, strict=True):
        storage.publish_table(location, pa.table({"features": features_column([video], 2)}))
    return locations


def written(shards: list[str]) -> VideoFrames:
    writer = FrameFileWriter("--features features")
    starts = [writer.add(video) for video in VIDEOS]
    return VideoFrames.in_file(writer.finish(shards), starts, [2, 1])


def test_the_file_holds_the_frames_and_is_deleted_with_its_last_use(folder: Path, shards: list[str]) -> None:
    videos = written(shards)
    assert [rows_TD.tolist() for rows_TD in videos] == [[[0, 1], [2, 3]], [[4, 5]]]
    selected = videos.select([1])
    del videos
    gc.collect()
    (path,) = folder.glob("*/frames.f16")
    assert path.stat().st_size == 12
    del selected
    gc.collect()
    assert list(folder.iterdir()) == []


def test_a_pickled_list_holds_the_path_and_a_process_maps_a_file_once(folder: Path, shards: list[str]) -> None:
    videos = written(shards)
    content = pickle.dumps(videos.select([1]))
    assert VIDEOS[1].tobytes() not in content
    copy = pickle.loads(content)
    assert copy.frames_ND is videos.frames_ND
    assert copy[0].tolist() == [[4, 5]]


def _sums(content: bytes, directory: str) -> tuple[list[float], list[str]]:
    """In another process: sums of the videos in a pickled list, and the folders of the temporary directory."""
    tempfile.tempdir = directory
    videos = pickle.loads(content)
    return [float(video.sum()) for video in videos], sorted(path.name for path in Path(directory).iterdir())


def test_a_process_of_the_same_machine_maps_the_file(folder: Path, shards: list[str]) -> None:
    videos = written(shards)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sums, names = pool.apply(_sums, (pickle.dumps(videos), str(folder)))
    assert sums == [6.0, 9.0]
    assert names == [path.name for path in folder.iterdir()]


def test_processes_of_another_machine_share_a_copy_that_they_make(
    folder: Path, shards: list[str], tmp_path: Path
) -> None:
    videos = written(shards)
    content = pickle.dumps(videos)
    name = next(folder.iterdir()).name
    del videos
    gc.collect()  # the machine of these processes has no such file
    other = tmp_path / "other"
    other.mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.starmap(_sums, [(content, str(other))] * 2, chunksize=1)
    assert results == [([6.0, 9.0], [f"{name}-copy"])] * 2


def test_a_copy_is_made_anew_if_its_maker_was_killed(folder: Path, shards: list[str]) -> None:
    abandoned = folder / "vidclf-features-x-copy"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    (abandoned / "frames.f16.new").write_bytes(b"half")
    file = frame_file.shared(str(folder / "vidclf-features-x" / "frames.f16"), shards, 2, 3)
    assert file.frames_ND.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert [path.name for path in abandoned.glob("frames*")] == ["frames.f16"]


def test_shards_that_have_changed_are_refused(folder: Path, shards: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"part-0.parquet and others: must hold 4 frames as before, hold 3"):
        frame_file.shared(str(folder / "vidclf-features-y" / "frames.f16"), shards, 2, 4)


def test_too_little_space_is_refused_after_the_first_videos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 2_000_000_000))
    writer = FrameFileWriter("--features features")
    writer.add(np.zeros((1000, 1000), np.float16))
    writer.check_space(1, 1000)
    expected = (
        r"--features features: takes about 4\.0 GB on the disk of the temporary directory '.*', which has 2\.0 GB "
        "free; TMPDIR names another one"
    )
    with pytest.raises(ConfigError, match=expected):
        writer.check_space(1, 2000)
    assert list(folder.iterdir()) == []


def test_a_file_on_the_disk_is_read_only(folder: Path, shards: list[str]) -> None:
    videos = written(shards)
    with pytest.raises(ValueError, match="read-only"):
        videos[0][0, 0] = 1
    assert isinstance(videos._file, FrameFile)
