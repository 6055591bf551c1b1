"""Extract jobs that an operator or the error budget stops on the way, and that are continued."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.jobs import ROOT, START_TIMEOUT_S, ids, job, succeed
from tests.support.videos import write_video

pytestmark = pytest.mark.usefixtures("ray_session")

BACKBONE = ("--backbone", "efficientnet_lite0", "--num-frames", "4")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Thirty copies of one video."""
    folder = tmp_path / "archive"
    (folder / "A").mkdir(parents=True)
    write_video(tmp_path / "v.mp4", 12)
    for number in range(30):
        shutil.copy(tmp_path / "v.mp4", folder / "A" / f"{number:02}.mp4")
    return folder


def index(archive: Path) -> Path:
    manifest = archive.with_name("manifest.parquet")
    succeed("index", "--input", archive, "--split", "none", "--output", manifest)
    return manifest


def quarantined(run: Path) -> dict[str, tuple[str, int]]:
    """Reject reason and number of attempts of each quarantined video, by file name."""
    rows = [row for path in (run / "quarantine").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {Path(row["video_uri"]).name: (row["reason"], row["attempts"]) for row in rows}


def test_a_wrong_mount_stops_the_job_and_its_return_is_all_it_takes(archive: Path, tmp_path: Path) -> None:
    arguments = ("--manifest", index(archive), "--output", tmp_path / "run", *BACKBONE, "--rows-per-shard", "2")
    archive.rename(tmp_path / "unmounted")
    stopped = job("extract", *arguments)
    assert stopped.returncode == 3, stopped.stderr
    assert "videos were rejected (not_found " in stopped.stderr
    assert "submit the same job again to continue" in stopped.stderr
    assert "Traceback" not in stopped.stderr

    (tmp_path / "unmounted").rename(archive)
    (archive / "A" / "00.mp4").write_text("no video")
    stdout = succeed("extract", *arguments, "--retry-quarantined", "not_found")
    assert "30 videos, 29 ok, 1 quarantined (not_a_video 1)" in stdout
    assert quarantined(tmp_path / "run")["00.mp4"][0] == "not_a_video"
    assert "the numbers add up" in succeed("audit", "--run", tmp_path / "run")

    num_attempts = quarantined(tmp_path / "run")["00.mp4"][1]
    assert "would process 1 of 30 videos" in succeed("extract", *arguments, "--retry-quarantined", "all", "--dry-run")
    succeed("extract", *arguments, "--retry-quarantined", "all")
    assert quarantined(tmp_path / "run") == {"00.mp4": ("not_a_video", num_attempts + 1)}
    assert "the numbers add up" in succeed("audit", "--run", tmp_path / "run")


def test_sigterm_ends_the_job_with_what_is_left_and_it_continues(
    archive: Path, tmp_path: Path, ray_session: str
) -> None:
    arguments = ("--manifest", index(archive), "--output", tmp_path / "run", *BACKBONE, "--rows-per-shard", "2")
    command = [sys.executable, str(ROOT / "jobs" / "extract.py"), *map(str, arguments)]
    environment = {**os.environ, "RAY_ADDRESS": ray_session}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ids(tmp_path / "run", "."):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=480)[1]
    num_done = len(ids(tmp_path / "run", "."))
    assert process.returncode == 1
    message = re.search(r"extract\.py: stopped by SIGTERM; (\S+): (\d+) ok, 0 quarantined, (\d+) left", stderr)
    assert message is not None, stderr
    assert (message[1], int(message[2]) + int(message[3])) == (str(tmp_path / "run"), 30)
    # A shard that was being written at that moment may be finished after the job has counted.
    assert 1 <= int(message[2]) <= num_done < 30
    assert "30 videos, 30 ok, 0 quarantined" in succeed("extract", *arguments)
    assert "the numbers add up" in succeed("audit", "--run", tmp_path / "run")
