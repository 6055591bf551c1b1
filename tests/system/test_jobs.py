"""The six jobs on twelve tiny videos, one after the other. Another extract is killed on the way and submitted again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.jobs import ids, job, job_process, killed_when, refuse, succeed
from tests.support.videos import write_video
from vidclf.runs import output_allowlist, outputs

# The one file of this directory that `make test` runs, too.
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CLASSES = ("Animation", "Gaming")
SMALL_MODEL = ("--hidden-dim", "8", "--num-lstm-layers", "1", "--num-attention-heads", "2", "--classifier-dims", "8")
BACKBONE = ("--backbone", "efficientnet_lite0", "--num-frames", "4")
ONE_WORKER = ("--decode-workers", "1")
"""For the jobs on twelve videos, where a second worker would only take longer to start. The job that is killed has two,
one per CPU."""
NUM_KILLED = 40
"""Videos of the job that is killed: enough that some are pending when the first shard is there, on a machine of any
speed."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos of two classes and five sources each, a truncated video, and a text file."""
    root = tmp_path_factory.mktemp("archive")
    for label in CLASSES:
        for source in range(5):
            path = root / label / "made" / f"source{source}-00.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            # The classes differ in frame size, so that decoding differs too.
            write_video(path, num_frames=12, size=(64, 64) if label == "Gaming" else (96, 64))
    whole = (root / "Gaming/made/source0-00.mp4").read_bytes()
    (root / "Gaming/made/source5-00.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "Animation/made/source5-00.mp4").write_text("not a video\n")
    return root


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def features(ray_session: str, archive: Path, work: Path) -> Path:
    """Extracted features of the archive."""
    manifest = work / "manifest.parquet"
    written = succeed("index", "--input", archive, "--group-pattern", r"^(.+)-\d+$", "--output", manifest)
    assert written.startswith(f"{manifest}: 12 videos from 12 sources, written")
    arguments = ("--manifest", manifest, "--output", work / "features", *BACKBONE, *ONE_WORKER, "--rows-per-shard", "2")
    stdout = succeed("extract", *arguments)
    assert stdout.startswith(f"{work / 'features'}: 12 videos, 10 ok, 2 quarantined (not_a_video 1, truncated 1)")
    assert "everything was done already" in succeed("extract", *arguments)
    return work / "features"


@pytest.fixture(scope="module")
def ensemble(features: Path, work: Path) -> Path:
    arguments = ("--features", features, "--output", work / "ensemble", "--members", "2", "--epochs", "4", *SMALL_MODEL)
    stdout = succeed("train", *arguments)
    assert "2 members" in stdout
    # The generated videos look alike, whatever their source.
    leakage = r"leakage: \d+ pairs of near duplicates are in different splits, see leakage\.parquet\n"
    assert re.match(rf"memory: about .* 2 members.*\n{leakage}", stdout)
    manifest = {row["video_id"]: row["split"] for row in pq.read_table(work / "manifest.parquet").to_pylist()}
    splits = pq.read_table(work / "ensemble/splits.parquet").to_pylist()
    assert {row["video_id"]: row["split"] for row in splits} == {i: manifest[i] for i in ids(features, ".")}
    assert "everything was done already" in succeed("train", *arguments)
    return work / "ensemble"


def test_a_killed_extract_ends_with_every_video_in_one_place(tmp_path: Path, ray_session: str) -> None:
    videos = tmp_path / "archive"
    videos.mkdir()
    for number in range(NUM_KILLED):
        write_video(videos / f"{number:03}.mp4", 8 + number)
    (videos / "none.mp4").write_text("not a video\n")
    manifest, run = tmp_path / "manifest.parquet", tmp_path / "features"
    succeed("index", "--input", videos, "--output", manifest)
    arguments = ("--manifest", manifest, "--output", run, *BACKBONE, "--rows-per-shard", "2")
    killed_when(lambda: len(ids(run, ".")) >= 2, "extract", *arguments)
    before = ids(run, ".")
    assert 2 <= len(before) < NUM_KILLED, "the kill came too late to show anything"
    # The second submission is a process, too. It attaches to a cluster, as on a cluster of machines.
    again = job_process("extract", *arguments, ray_address=ray_session)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith(f"{run}: 41 videos, 40 ok, 1 quarantined (not_a_video 1)")
    assert set(before) <= set(ids(run, "."))
    everything = pq.read_table(manifest)["video_id"].to_pylist()
    assert sorted(ids(run, ".") + ids(run, "quarantine")) == sorted(everything)
    assert succeed("audit", "--run", run).splitlines() == [
        f"{run}: 41 videos = 40 ok + 1 quarantined + 0 pending",
        "the numbers add up",
    ]


def test_features_have_the_columns_of_the_contract(features: Path) -> None:
    part = pq.read_table(sorted(features.glob("part-*.parquet"))[0])
    row = part.slice(0, 1).to_pylist()[0]
    assert (row["num_frames"], len(row["features"]), len(row["features"][0])) == (4, 4, 1280)
    assert row["video_codec"] == "h264"
    assert row["height"] == 64


def test_audit_fails_when_a_shard_is_gone(features: Path, work: Path) -> None:
    damaged = work / "damaged"
    shutil.copytree(features, damaged)
    sorted(damaged.glob("part-*.parquet"))[0].unlink()
    done = job("audit", "--run", damaged)
    assert done.returncode == 1
    assert "pending: neither done nor quarantined" in done.stdout


def test_classify_and_evaluate(archive: Path, ensemble: Path, work: Path) -> None:
    predictions, report = work / "predictions", work / "report"
    arguments = ("--ensemble", ensemble, "--tta", "--segments", "0.5", "--coverage", "0.9", *ONE_WORKER)
    saved = ("--save-features", work / "saved")
    stdout = succeed("classify", "--input", archive, *arguments, *saved, "--output", predictions)
    assert stdout.startswith(f"{predictions}: 12 videos, 10 ok, 2 quarantined (not_a_video 1, truncated 1)")
    assert "the numbers add up" in succeed("audit", "--run", predictions)
    rows = [row for path in predictions.glob("part-*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["label"] for row in rows} <= {*CLASSES, None}
    for row in rows:
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == max(row["probabilities"])
        assert CLASSES[row["probabilities"].index(row["confidence"])] == row["top_label"]
        assert row["label"] == (row["top_label"] if row["verdict"] == "accepted" else None)
        # Two temporal members and the linear one.
        assert (len(row["member_probabilities"]), len(row["view_probabilities"])) == (3, 4)
        # Too few sources were held out for another set than that of all classes.
        assert row["prediction_set"][0] == row["top_label"]
        assert sorted(row["prediction_set"]) == list(CLASSES)
        assert 0 <= row["trust_score"] <= 1
        assert len(row["attention"]) == len(row["pts_s"]) == row["num_frames"] == 4
    table = succeed(
        "evaluate", "--predictions", predictions, "--manifest", work / "manifest.parquet", "--output", report
    )
    assert [line.split("  ")[0] for line in table.splitlines()] == [
        "videos",
        "ok",
        "quarantined",
        "videos per second",
        # The generated videos look alike, so that the test videos are near duplicates of training videos.
        "accuracy (val)",
        "splits",
        "mean of the sources",
        "linear member",
        "accepted",
        "prediction sets",
        "risk basis",
        "drift",
        "report",
    ]
    metrics = json.loads((report / "metrics.json").read_text())
    num_correct = sum(scores["num_correct"] for scores in metrics["per_split"].values())
    labels = dict(
        zip(*pq.read_table(work / "manifest.parquet").select(["video_id", "label"]).to_pydict().values(), strict=True)
    )
    assert num_correct == sum(labels[row["video_id"]] == row["top_label"] for row in rows)
    assert "<h2>Confusion matrix</h2>" in (report / "index.html").read_text()


def test_saved_features_are_classified_as_their_videos_were(ensemble: Path, work: Path) -> None:
    again, predictions, saved = work / "again", work / "predictions", work / "saved"
    assert "the numbers add up" in succeed("audit", "--run", saved)
    arguments = (
        "--features",
        saved,
        "--ensemble",
        ensemble,
        "--output",
        again,
        *ONE_WORKER,
        "--tta",
        "--segments",
        "0.5",
    )
    stdout = succeed("classify", *arguments)
    assert stdout.startswith(f"{again}: 12 videos, 10 ok, 2 quarantined (not_a_video 1, truncated 1)")
    assert "the numbers add up" in succeed("audit", "--run", again)
    # Both jobs chose a precision for the head by the same check on the same machine.
    engines = [set(json.loads((run / "summary.json").read_text())["head_engines"]) for run in (predictions, again)]
    assert engines[0] == engines[1] <= {"torch cpu fp32", "torch cpu bf16"}
    assert len(engines[0]) == 1
    for place in (".", "segments"):
        rows, rows_again = (table(run, place) for run in (predictions, again))
        assert [row["video_id"] for row in rows] == [row["video_id"] for row in rows_again]
        for row, row_again in zip(rows, rows_again, strict=True):
            assert row["top_label"] == row_again["top_label"]
            assert row["probabilities"] == pytest.approx(row_again["probabilities"], abs=1e-3)
    # 12 frames at 10 per second: segments of 0.5, 0.5 and 0.2 seconds, each with a sampled frame.
    segments = [(s["segment_index"], s["start_s"], s["end_s"]) for s in table(again, "segments")[:3]]
    assert segments == [(0, 0.0, 0.5), (1, 0.5, 1.0), (2, 1.0, pytest.approx(1.2))]
    assert "everything was done already" in succeed("classify", *arguments)
    assert "holds a run with" in refuse_last("classify", *arguments[:-2])


def table(run: Path, place: str) -> list[dict[str, Any]]:
    """All rows in the shards of a run's directory `place`, sorted by video."""
    rows = [row for path in run.glob(f"{place}/part-*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: (row["video_id"], row.get("segment_index", 0)))


def refuse_last(name: str, *arguments: str | Path) -> str:
    """The last line on standard error of a job that is refused after its line on `--abstain-risk`."""
    done = job(name, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def test_every_job_writes_only_files_of_its_closed_list(features: Path, ensemble: Path, work: Path) -> None:
    kinds = {
        "features": output_allowlist.FEATURES,
        "saved": output_allowlist.FEATURES,
        "ensemble": output_allowlist.ENSEMBLE,
        "predictions": output_allowlist.PREDICTIONS,
        "again": output_allowlist.PREDICTIONS,
        "report": output_allowlist.REPORT,
    }
    for name, kind in kinds.items():
        assert outputs.contents(kind, str(work / name)).foreign == [], name


def test_wrong_arguments_are_refused_before_any_work(archive: Path, ensemble: Path, features: Path, work: Path) -> None:
    output = work / "refused"
    (work / "empty").mkdir()
    where = ("--ensemble", ensemble, "--output", output)
    assert refuse("classify", "--input", "/no/such", *where) == (
        "classify.py: error: --input /no/such: no such directory or list file\n"
    )
    assert refuse("classify", "--input", work / "empty", *where) == (
        f"classify.py: error: --input {work / 'empty'}: holds no video (it is empty)\n"
    )
    assert refuse("classify", "--input", archive, *where, "--backbone", "resnet50") == (
        "classify.py: error: --backbone must be efficientnet_lite0, as for the ensemble's training, got 'resnet50'\n"
    )
    assert "got 'other'" in refuse("classify", "--input", archive, "--ensemble", "other", "--output", output)
    assert "num_frames: 4 != 5" in refuse(
        "extract", "--manifest", work / "manifest.parquet", "--output", features, *BACKBONE[:3], "5"
    )
    assert not output.exists()
