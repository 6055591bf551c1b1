"""Jobs submitted to a cluster with a head, a worker and an access token: stopped, submitted again, failed."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.jobs import succeed
from tests.support.ray_nodes import RayNodes
from tests.support.videos import write_video
from vidclf.ray_cluster import ClusterResources, resources_of

NUM_VIDEOS = 32
FEATURES = ("--backbone", "efficientnet_lite0", "--num-frames", "8", "--rows-per-shard", "2")


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, RayNodes(Path(folder), 2) as running:
        yield running


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("submitted")
    video = write_video(root / "video.mp4", num_frames=48, size=(320, 240), noise=True)
    for index in range(NUM_VIDEOS):
        copy = root / "archive" / ("Animation", "Gaming")[index % 2] / "made" / f"source{index}-00.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, copy)
    succeed("index", "--input", root / "archive", "--output", root / "manifest.parquet")
    return root / "manifest.parquet"


@pytest.mark.parametrize(
    ("now", "most", "cpus", "gpus"),
    [
        ({"CPU": 16.0, "GPU": 2.0}, None, 16, 2),
        # A head without CPUs, and worker pools that are still empty.
        ({"memory": 1e9}, {"CPU": 256 + 64, "GPU": 4}, 320, 4),
        ({"memory": 1e9}, None, 1, 0),
        # More than the autoscaler would start, for example machines that were added by hand.
        ({"CPU": 64.0}, {"CPU": 32}, 64, 0),
        # No limit to growth: Ray states the largest integer.
        ({"CPU": 8.0}, {"CPU": sys.maxsize, "GPU": 0}, 8, 0),
    ],
)
def test_a_job_counts_on_what_the_cluster_can_grow_to(
    now: dict[str, float], most: dict[str, int] | None, cpus: int, gpus: int
) -> None:
    assert resources_of(now, most) == ClusterResources(num_cpus=cpus, num_gpus=gpus)


def num_done(run: Path) -> int:
    """Rows in the shards of a run."""
    return sum(pq.read_metadata(path).num_rows for path in run.glob("part-*.parquet"))


def extract(nodes: RayNodes, name: str, manifest: Path, output: Path, *more: str) -> None:
    arguments = ("--manifest", str(manifest), "--output", str(output), *FEATURES, *more)
    nodes.submit(name, "python", "jobs/extract.py", *arguments)


def test_a_stopped_job_is_submitted_again_and_the_numbers_add_up(nodes: RayNodes, manifest: Path) -> None:
    output = manifest.parent / "features"
    extract(nodes, "first", manifest, output)
    deadline = time.monotonic() + 300
    while num_done(output) < 2:
        assert nodes.job("first")["status"] in ("PENDING", "RUNNING"), nodes.log("first")
        assert time.monotonic() < deadline, nodes.log("first")
        time.sleep(0.05)
    nodes.stop("first")
    assert nodes.ended("first")["status"] == "STOPPED"
    log = nodes.log("first")
    assert "stopped by SIGTERM" in log, log
    assert "Traceback" not in log
    num_before = num_done(output)
    assert 2 <= num_before < NUM_VIDEOS, "the stop came too late to show anything"

    extract(nodes, "again", manifest, output, "--json-logs", "--profile")
    job = nodes.ended("again")
    log = nodes.log("again")
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0), log
    assert f"{output}: {NUM_VIDEOS} videos, {NUM_VIDEOS} ok, 0 quarantined" in log
    assert "\r" not in log
    assert "\x1b" not in log
    events = [
        json.loads(line)
        for path in nodes.logs("worker-*.out")
        for line in path.read_text().splitlines()
        if line[:1] == "{"
    ]
    for stage in ("decode", "cnn"):
        stage_events = [event for event in events if event["stage"] == stage]
        assert len({event["video_id"] for event in stage_events}) == NUM_VIDEOS - num_before
        assert all(event["outcome"] == "ok" and event["seconds"] > 0 for event in stage_events)
    traced = {event["cat"] for event in json.loads((output / "timeline.json").read_text())}
    assert "task::MapWorker(MapBatches(DecodeAndEmbed)).submit" in traced
    assert audited(output) == [
        f"{output}: {NUM_VIDEOS} videos = {NUM_VIDEOS} ok + 0 quarantined + 0 pending",
        "the numbers add up",
    ]


def test_an_ensemble_is_trained_and_classifies_on_the_cluster(nodes: RayNodes, manifest: Path) -> None:
    features, trained, output = (manifest.parent / name for name in ("features", "ensemble", "predictions"))
    assert (features / "summary.json").exists(), "the previous test extracts them"
    small = ("--hidden-dim", "8", "--num-lstm-layers", "1", "--num-attention-heads", "2", "--classifier-dims", "8")
    schedule = ("--members", "2", "--epochs", "2", "--near-duplicate-cosine", "1")
    where = ("--features", str(features), "--output", str(trained))
    nodes.submit("train", "python", "jobs/train.py", *where, *schedule, *small)
    assert (nodes.ended("train")["status"], "2 members" in nodes.log("train")) == ("SUCCEEDED", True), nodes.log(
        "train"
    )
    where = ("--input", str(manifest.parent / "archive"), "--ensemble", str(trained), "--output", str(output))
    nodes.submit("classify", "python", "jobs/classify.py", *where, "--rows-per-shard", "8")
    assert nodes.ended("classify")["status"] == "SUCCEEDED", nodes.log("classify")
    assert f"{output}: {NUM_VIDEOS} videos, {NUM_VIDEOS} ok, 0 quarantined" in nodes.log("classify")
    assert audited(output)[-1] == "the numbers add up"


def audited(run: Path) -> list[str]:
    """The lines that `audit` prints for a run; it must pass."""
    return succeed("audit", "--run", run).splitlines()


def test_the_exit_code_of_a_failed_job_reaches_the_api(nodes: RayNodes, manifest: Path) -> None:
    extract(nodes, "refused", manifest.with_name("none.parquet"), manifest.parent / "refused")
    job = nodes.ended("refused")
    assert (job["status"], job["driver_exit_code"]) == ("FAILED", 2)
    assert "extract.py: error: --manifest" in nodes.log("refused")


def test_the_package_holds_what_a_job_needs_and_nothing_else(nodes: RayNodes) -> None:
    (package,) = nodes.folder.glob("head/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    top = {path.name for path in package.iterdir()} - {"__pycache__"}
    assert {"jobs", "vidclf"} <= top
    assert top & {".git", ".venv", "examples", "tests", "benchmarks", "docs", "demo"} == set()
    size_bytes = sum(path.stat().st_size for path in package.rglob("*") if path.suffix != ".pyc" and path.is_file())
    assert size_bytes < 2_500_000  # the source of vidclf itself is 2.0 MB


def test_a_client_without_the_token_is_refused(nodes: RayNodes) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{nodes.dashboard}/api/jobs/", timeout=120)
    with error.value as answer:
        assert answer.code == 401
