"""Two backbones from one decoding in a job that is killed on the way; stale files and duplicates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.jobs import ids, job, killed_when, succeed
from tests.support.videos import write_video
from vidclf.features.feature_set import read_features
from vidclf.runs import output_allowlist
from vidclf.runs.outputs import contents

pytestmark = pytest.mark.usefixtures("ray_session")

LITE0 = ("--backbone", "efficientnet_lite0", "--num-frames", "4", "--rows-per-shard", "2")
BOTH = ("--backbone", "efficientnet_lite0,resnet50", "--weights", "DEFAULT,random", *LITE0[2:])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty different videos, a copy of one of them, and a text file."""
    root = tmp_path_factory.mktemp("two")
    (root / "archive" / "A").mkdir(parents=True)
    for number in range(40):
        write_video(root / "archive" / "A" / f"{number:02}.mp4", 8 + number, size=(96, 64))
    shutil.copy(root / "archive/A/03.mp4", root / "archive/A/copy.mp4")
    (root / "archive/A/none.mp4").write_text("no video")
    succeed("index", "--input", root / "archive", "--split", "none", "--output", root / "manifest.parquet")
    return root / "manifest.parquet"


@pytest.fixture(scope="module")
def both(ray_session: str, manifest: Path) -> Path:
    output = manifest.with_name("both")
    arguments = ("--manifest", manifest, "--output", output, *BOTH)
    killed_when(lambda: len(ids(output, "resnet50")) >= 2, "extract", *arguments)
    before = ids(output, "resnet50")
    assert 2 <= len(before) < 41, "the kill came too late to show anything"
    lines = succeed("extract", *arguments).splitlines()
    counts = "42 videos, 41 ok, 1 quarantined (not_a_video 1), 1 duplicate of another video; "
    assert [line.split(": ")[0] for line in lines] == [f"{output}/efficientnet_lite0", f"{output}/resnet50"]
    assert all(counts in line for line in lines)
    assert set(before) <= set(ids(output, "resnet50"))
    return output


def test_every_backbone_has_a_run_of_its_own_with_every_video_once(both: Path) -> None:
    assert len(ids(both, "resnet50")) == len(set(ids(both, "resnet50"))) == 41
    assert ids(both, "resnet50") == ids(both, "efficientnet_lite0")
    lines = succeed("audit", "--run", both, "--stale").splitlines()
    assert lines == [
        f"{both}/efficientnet_lite0: 42 videos = 41 ok + 1 quarantined + 0 pending",
        f"{both}/resnet50: 42 videos = 41 ok + 1 quarantined + 0 pending",
        "the numbers add up",
    ]
    assert read_features(str(both / "resnet50")).features[0].shape == (4, 2048)
    assert contents(output_allowlist.FEATURES, str(both)).foreign == []


def test_the_features_are_those_that_one_backbone_alone_gives(both: Path, manifest: Path) -> None:
    # The run of one backbone has decoding and the CNN in separate workers, the other run has them in the same ones.
    separate = ("--cnn-workers", "1")
    succeed("extract", "--manifest", manifest, "--output", manifest.with_name("alone"), *LITE0, *separate)
    alone, shared = read_features(str(manifest.with_name("alone"))), read_features(str(both / "efficientnet_lite0"))
    assert alone.spec == shared.spec
    assert alone.video_ids == shared.video_ids
    for shared_TD, alone_TD in zip(shared.features, alone.features, strict=True):
        # Not bit for bit, because batches of other sizes are summed in another order.
        np.testing.assert_allclose(shared_TD.astype(np.float32), alone_TD.astype(np.float32), atol=2e-2)


def test_the_copy_is_named_a_duplicate(both: Path) -> None:
    (row,) = pq.read_table(both / "resnet50" / "duplicates.parquet").to_pylist()
    assert Path(row["video_uri"]).name == "copy.mp4"
    assert Path(row["duplicate_of_uri"]).name == "03.mp4"
    summary = json.loads((both / "resnet50" / "summary.json").read_text())
    assert (summary["num_duplicates"], summary["num_duplicates_across_splits"]) == (1, 0)


def test_a_file_changed_under_its_name_is_stale_until_it_is_done_again(both: Path, manifest: Path) -> None:
    changed = manifest.with_name("archive") / "A" / "05.mp4"
    write_video(changed, 20, size=(64, 96))
    audit = job("audit", "--run", both, "--stale")
    assert audit.returncode == 1
    assert audit.stdout.count("1 video(s) stale: changed since they were done: ") == 2
    assert "the numbers add up" in succeed("audit", "--run", both)
    arguments = ("--manifest", manifest, "--output", both, *BOTH, "--redo-stale")
    assert "would process 1 of 42 videos" in succeed("extract", *arguments, "--dry-run")
    assert "41 ok, 1 quarantined" in succeed("extract", *arguments)
    assert "the numbers add up" in succeed("audit", "--run", both, "--stale")
    for name in ("resnet50", "efficientnet_lite0"):
        rows = [row for path in (both / name).glob("part-*.parquet") for row in pq.read_table(path).to_pylist()]
        heights = {Path(row["video_uri"]).name: row["height"] for row in rows}
        assert [name for name, height in heights.items() if height == 96] == ["05.mp4"]
