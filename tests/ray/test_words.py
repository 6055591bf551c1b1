"""Labels from words, end to end: a small random model of pictures and texts, videos, and all jobs that read the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.support.checkpoints import write_open_clip
from tests.support.jobs import refuse, succeed
from tests.support.videos import write_video
from vidclf import read_predictions
from vidclf.ensemble import files
from vidclf.features.columns import features_TD

# Whole jobs, each with processes of its own.
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session")]

LABELS = {"Animation": "a cartoon", "Gaming": ["a video game", "someone playing a game"]}
NOTE = "confidence is not calibrated"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two classes with four sources each, its manifest, the model, and the labels."""
    root = tmp_path_factory.mktemp("words")
    for label in LABELS:
        for source in range(4):
            path = root / "archive" / label / "made" / f"source{source}-00.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, num_frames=6 + source, size=(64, 64) if label == "Gaming" else (96, 64))
    (root / "archive" / "Gaming" / "made" / "source9-00.mp4").write_text("not a video\n")
    pattern = ("--group-pattern", r"^(.+)-\d+$")
    succeed("index", "--input", root / "archive", *pattern, "--output", root / "manifest.parquet")
    write_open_clip(root / "clip", vocab_size=49408, context_length=12)
    (root / "labels.yaml").write_text(yaml.safe_dump(LABELS))
    return root


def words(work: Path, *arguments: str | Path) -> tuple[str | Path, ...]:
    """The command line of a job with one worker, as a second one would only take longer to start."""
    model = ("--labels", work / "labels.yaml", "--backbone", f"local-dir:{work}/clip")
    return ("classify", *model, "--decode-workers", "1", *arguments)


@pytest.fixture(scope="module")
def run(work: Path, ray_session: str) -> Path:
    arguments = ("--manifest", work / "manifest.parquet", "--output", work / "run", "--num-frames", "4")
    stdout = succeed(*words(work, *arguments, "--save-features", work / "saved", "--precision", "fp32"))
    assert f"{work}/run: 9 videos, 8 ok, 1 quarantined (not_a_video 1)" in stdout
    assert f"{work}/run: {NOTE}" in stdout
    return work / "run"


def test_predictions_are_similarities_and_say_that_they_are_not_calibrated(work: Path, run: Path) -> None:
    import open_clip

    network = open_clip.create_model(f"local-dir:{work}/clip").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{work}/clip")
    with torch.inference_mode():
        cartoon, game, playing = network.encode_text(
            tokenizer(["a cartoon", "a video game", "someone playing a game"]), normalize=True
        ).numpy()
    gaming = (game + playing) / np.linalg.norm(game + playing)
    saved = {
        row["video_id"].as_py(): features_TD(row["features"]).astype(np.float32)
        for path in (work / "saved").glob("part-*.parquet")
        for row in [
            dict(zip(("video_id", "features"), pair, strict=True))
            for pair in zip(*(pq.read_table(path)[name] for name in ("video_id", "features")), strict=True)
        ]
    }
    rows = read_predictions(str(run)).to_pylist()
    assert len(rows) == len(saved) == 8
    for row in rows:
        frames_TD = saved[row["video_id"]]
        unit_TD = frames_TD / np.linalg.norm(frames_TD, axis=1, keepdims=True)
        logits_C = (unit_TD @ np.stack([cartoon, gaming]).T / 0.07).mean(axis=0)
        expected_C = np.exp(logits_C - logits_C.max())
        np.testing.assert_allclose(row["probabilities"], expected_C / expected_C.sum(), atol=1e-4)
        top = ["Animation", "Gaming"][int(logits_C.argmax())]
        assert (row["label"], row["top_label"], row["verdict"]) == (top, top, "accepted")
        assert (row["trust_score"], row["ood_score"], row["member_disagreement"]) == (None, None, 0.0)
        np.testing.assert_allclose(row["attention"], [1 / row["num_frames"]] * row["num_frames"], rtol=1e-6)
        assert row["ensemble_id"].startswith("words-")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["calibrated"] is False
    assert summary["calibration_note"].startswith(NOTE)
    identity = json.loads((run / "run_identity.json").read_text())
    assert identity["settings"]["labels"] == {"Animation": ["a cartoon"], "Gaming": LABELS["Gaming"]}


def test_the_other_jobs_take_the_run(work: Path, run: Path) -> None:
    assert "the numbers add up" in succeed("audit", "--run", run)
    report = ("--predictions", run, "--manifest", work / "manifest.parquet", "--output", work / "report")
    assert NOTE in succeed("evaluate", *report)
    page = (work / "report" / "index.html").read_text()
    assert "Confidence is not calibrated" in page
    assert "nan" not in (work / "report" / "misclassified.csv").read_text()
    succeed("export", "--run", run, "--to", "csv", "--output", work / "rows.csv")
    assert (work / "rows.csv").read_text().count("words-") == 8
    succeed("diff", "--before", run, "--after", run, "--output", work / "diff")
    # The saved features are those of any extraction.
    assert "would train members" in succeed(
        *("train", "--features", work / "saved", "--output", work / "trained", "--dry-run", "--model", "attentive"),
        *("--split", "0.5,0.5,0", "--near-duplicate-cosine", "1"),
    )
    assert "everything was done already" in succeed(
        *words(work, "--manifest", work / "manifest.parquet", "--output", run, "--num-frames", "4"),
        *("--save-features", work / "saved", "--precision", "fp32"),
    )


def test_stored_features_need_no_decoding(work: Path, run: Path) -> None:
    succeed(*words(work, "--features", work / "saved", "--output", work / "again"))
    first, second = (
        {row["video_id"]: row["probabilities"] for row in read_predictions(str(path)).to_pylist()}
        for path in (run, work / "again")
    )
    assert first.keys() == second.keys()
    for video_id, probabilities in first.items():
        np.testing.assert_allclose(probabilities, second[video_id], atol=1e-5)


def test_labelled_features_calibrate_it(work: Path, run: Path) -> None:
    arguments = ("--features", work / "saved", "--calibrate-with", work / "saved", "--output", work / "calibrated")
    assert NOTE not in succeed(*words(work, *arguments, "--abstain-risk", "0.2", "--coverage", "0.9"))
    rows = read_predictions(str(work / "calibrated")).to_pylist()
    loaded = files.load(str(work / "calibrated" / "ensemble"), torch.device("cpu"))
    assert loaded.info.training["labels"] == {"Animation": ["a cartoon"], "Gaming": LABELS["Gaming"]}
    assert {row["ensemble_id"] for row in rows} == {loaded.info.ensemble_id}
    assert all(0 <= row["trust_score"] <= 1 and row["ood_score"] >= 0 for row in rows)
    assert "the numbers add up" in succeed("audit", "--run", work / "calibrated")
    report = ("--predictions", work / "calibrated", "--manifest", work / "manifest.parquet")
    succeed("evaluate", *report, "--output", work / "report2")
    metrics = json.loads((work / "report2" / "metrics.json").read_text())
    assert metrics["calibration"]["temperature"] == loaded.info.calibration.temperature
    assert "everything was done already" in succeed(
        *words(work, *arguments, "--abstain-risk", "0.2", "--coverage", "0.9")
    )


def test_what_does_not_fit_is_refused_in_one_line(work: Path, run: Path, tmp_path: Path) -> None:
    videos = ("--manifest", work / "manifest.parquet", "--output", tmp_path / "out")
    assert refuse(*words(work, *videos, "--abstain-risk", "0.1")) == (
        "classify.py: error: --abstain-risk must be left out with --labels until --calibrate-with FEATURES says how "
        "far confidence can be trusted, got 0.1\n"
    )
    assert "--ensemble must be left out with --labels" in refuse(*words(work, *videos, "--ensemble", work / "run"))
    assert "--ensemble must be given, or --labels, got None" in refuse("classify", *videos)
    assert "--calibrate-with must be given only with --labels" in refuse(
        *("classify", *videos, "--ensemble", work / "e", "--calibrate-with", work / "saved")
    )
    (tmp_path / "labels.yaml").write_text("Animation: a cartoon\nSport: a match\n")
    other = ("classify", "--labels", tmp_path / "labels.yaml", "--backbone", f"local-dir:{work}/clip", *videos)
    line = refuse(*other, "--calibrate-with", work / "saved")
    assert "labels must be those of --labels (Animation, Sport), " in line
    assert line.endswith("has 'Gaming'\n")
