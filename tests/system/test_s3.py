"""Manifest, videos and outputs in a bucket of an S3 server (moto) on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.jobs import job, job_process, killed_when, refuse, succeed
from tests.support.videos import write_video
from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.feature_set import read_features
from vidclf.runs import lease, lease_storage, state
from vidclf.runs.layout import Run
from vidclf.runs.lease import LeaseLost, Output
from vidclf.video import decode, source
from vidclf.video.rejection import VideoRejected
from vidclf.video.remote_file import RangedFile
from vidclf.video.sampling import SamplingPlan

pytestmark = pytest.mark.usefixtures("ray_session")

BACKBONE = ("--backbone", "efficientnet_lite0", "--num-frames", "4", "--rows-per-shard", "2")


def put(path: Path, location: str) -> None:
    storage.publish_bytes(location, path.read_bytes())


def test_objects_are_published_listed_and_deleted(endpoint: str) -> None:
    for options in ("", f"?endpoint_override={endpoint}&scheme=http&region=us-east-1"):
        folder = f"s3://archive/objects{options}"
        first, second = storage.join(folder, "a b.json"), storage.join(folder, "deeper", "ü?.json")
        assert first == f"s3://archive/objects/a b.json{options}"
        assert not storage.exists(first)
        storage.publish_json(first, {"a": 1})
        storage.publish_json(second, [2])
        assert (storage.read_json(first), storage.read_json(second)) == ({"a": 1}, [2])
        assert storage.list_files(folder) == [first]
        assert storage.list_files(folder, recursive=True) == sorted([first, second])
        assert storage.list_dirs(folder) == [f"s3://archive/objects/deeper{options}"]
        assert (storage.is_dir(folder), storage.is_dir(first)) == (True, False)
        storage.delete_file(first)
        assert storage.list_files(folder) == []
        storage.delete_tree(folder)
        assert not storage.exists(second)
    assert storage.list_files("s3://archive/none") == []


def test_an_upload_that_fails_half_way_leaves_what_was_there(endpoint: str) -> None:
    storage.publish_bytes("s3://archive/whole", b"whole")

    def fail(stream: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.publish("s3://archive/whole", fail)
    assert storage.read_bytes("s3://archive/whole") == b"whole"


def test_a_bucket_has_one_client(endpoint: str) -> None:
    assert storage.resolve("s3://archive/a")[0] is storage.resolve("s3://archive/b/c")[0]
    assert storage.resolve("s3://archive/b/c")[1] == "archive/b/c"


def test_one_job_holds_the_lease_of_a_directory_in_a_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    output = Output(location="s3://archive/leased/run")
    with lease.held([output], "extract.py"):
        first = lease_storage.place(output.location).claims()[0]
        with pytest.raises(ConfigError, match=r"--output s3://archive/leased/run: extract\.py of \S+ on "):  # noqa: SIM117
            with lease.held([output], "train.py"):
                raise AssertionError
        assert storage.list_files("s3://archive/leased", recursive=True) == []
        lease.guard(output.location).check()
        storage.publish_bytes("s3://archive/leased/run/part-0.parquet", b"")
        storage.delete_tree(output.location)
        assert lease_storage.place(output.location).is_held(first)
    assert lease_storage.place(output.location).claims() == []


def test_a_lease_in_a_bucket_is_taken_over_and_its_job_stops(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    output = Output(location="s3://archive/taken/run")

    def work() -> None:
        with lease.held([output], "extract.py"):
            assert lease_storage.place(output.location).acquire(lease._claim("train.py"), lambda claim: True) is None
            time.sleep(30)

    with pytest.raises(LeaseLost, match=r"^stopped: train\.py of \S+ on \S+ has taken s3://archive/taken/run over$"):
        work()
    assert [claim.job for claim in lease_storage.place(output.location).claims()] == ["train.py"]


def test_a_video_is_read_by_ranges(endpoint: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 300, size=(320, 240), noise=True, gop=30)
    put(path, "s3://archive/ranged/v.mp4")
    plan = SamplingPlan(num_frames=2, mode="keyframes")
    remote = decode.decode_video("s3://archive/ranged/v.mp4", plan, np.copy)
    local = decode.decode_video(str(path), plan, np.copy)
    assert np.array_equal(remote.frames_THWC, local.frames_THWC)
    assert remote.content is not None
    assert remote.content.digest.startswith("xxh3-sampled:")
    assert remote.content.size_bytes == path.stat().st_size
    assert remote.content.modified is not None
    with source.locate("s3://archive/ranged/v.mp4") as file:
        assert isinstance(file, RangedFile)
        assert file.read_range(0, 8)[4:] == b"ftyp"
        assert file.bytes_fetched == 8


@pytest.mark.parametrize(
    ("location", "reason"), [("s3://archive/absent.mp4", "not_found"), ("s3://no-such-bucket/v.mp4", "not_found")]
)
def test_what_is_not_there_is_not_found(endpoint: str, location: str, reason: str) -> None:
    with pytest.raises(VideoRejected) as rejected:
        decode.decode_video(location, SamplingPlan(), np.copy)
    assert rejected.value.reason == reason


def settled_state(output: str) -> state.RunState:
    """The state of a run whose driver was killed. Its workers may write a shard in the seconds that they outlive it."""
    before = state.read_state(output)
    while True:
        time.sleep(5)
        now = state.read_state(output)
        if now == before:
            return now
        before = now


def test_an_extraction_in_a_bucket_is_killed_and_continued(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "archive" / "A").mkdir(parents=True)
    for number in range(40):
        path = write_video(tmp_path / "archive" / "A" / f"{number:02}.mp4", 8 + number, size=(96, 64))
        put(path, f"s3://archive/videos/A/{path.name}")
    storage.publish_bytes("s3://archive/videos/A/none.mp4", b"no video")
    manifest, output = "s3://archive/work/manifest.parquet", "s3://archive/work/features"
    assert "41 videos" in succeed("index", "--input", "s3://archive/videos", "--split", "none", "--output", manifest)

    arguments = ("--manifest", manifest, "--output", output, *BACKBONE)
    killed_when(lambda: len(Run(output).shards()) >= 1, "extract", *arguments)
    assert job("audit", "--run", output).returncode == 1
    before = settled_state(output)
    assert before.num_ok >= 1
    assert before.num_pending >= 1, "the kill came too late to show anything"
    assert f"would process {before.num_pending} of 41 videos" in succeed("extract", *arguments, "--dry-run")
    # In a process with a Ray of its own, because workers read the address of the server from their environment. The
    # Ray of the other tests may have started before the server.
    again = job_process("extract", *arguments, ray_address="local")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith(f"{output}: 41 videos, 40 ok, 1 quarantined (not_a_video 1)")
    assert succeed("audit", "--run", output, "--stale").splitlines() == [
        f"{output}: 41 videos = 40 ok + 1 quarantined + 0 pending",
        "the numbers add up",
    ]
    assert "everything was done already" in succeed("extract", *arguments)
    assert "num_frames: 4 != 5" in refuse("extract", *arguments, "--num-frames", "5")

    # Local files give the same features.
    local = tmp_path / "features"
    succeed("index", "--input", tmp_path / "archive", "--split", "none", "--output", tmp_path / "m.parquet")
    succeed("extract", "--manifest", tmp_path / "m.parquet", "--output", local, *BACKBONE)
    remote_set, local_set = read_features(output), read_features(str(local))
    assert len(remote_set.features) == len(local_set.features) == 40
    for from_bucket, from_disk in zip(remote_set.features, local_set.features, strict=True):
        np.testing.assert_allclose(from_bucket.astype(np.float32), from_disk.astype(np.float32), atol=2e-2)
