"""The report says what the files say, and escapes what they hold."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vidclf import ledger, schema, storage
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ConfigError, EvaluateConfig
from vidclf.features.store import FeatureSpec
from vidclf.prediction import report

CLASSES = ["A", "B"]
VIDEOS: list[tuple[str, str | None, str, str, float]] = [
    # video, true label, split, predicted, confidence
    ("1", "A", "test", "A", 0.9),
    ("2", "A", "test", "B", 0.8),
    ("3", "B", "test", "B", 0.7),
    ("4", "B", "train", "B", 1.0),
    ("<script>alert(1)</script>", "A", "val", "B", 0.6),
]
SUMMARY: dict[str, Any] = {
    "num_input_videos": 6,
    "num_ok": 5,
    "num_quarantined": 1,
    "reasons": {"truncated": 1},
    "videos_per_s": 2.5,
    "total_video_duration_s": 60.0,
}


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    """A finished classification of VIDEOS, written by hand."""
    run = tmp_path / "predictions"
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=2))
    identity = {"feature_spec": asdict(spec), "ensemble_id": "e0", "classes": CLASSES}
    storage.publish_json(str(run / "run_identity.json"), identity)
    storage.publish_json(str(run / ledger.SUMMARY_FILE), SUMMARY)
    rows = [
        {
            schema.VIDEO_ID: video,
            "video_uri": f"/none/{video}",
            "top_label": predicted,
            "confidence": confidence,
            "attention": [0.25, 0.75],
            "pts_s": [0.0, 1.5],
        }
        for video, _, _, predicted, confidence in VIDEOS
    ]
    storage.publish_table(str(run / "part-0.parquet"), pa.Table.from_pylist(rows))
    rejected = [
        {
            schema.VIDEO_ID: "6",
            "video_uri": "/none/6",
            "reason": "truncated",
            "message": "cut <b>off</b>",
            "attempts": 1,
        }
    ]
    storage.publish_table(str(run / "quarantine/part-0.parquet"), pa.Table.from_pylist(rejected, schema.QUARANTINE))
    labels = {video: label for video, label, *_ in VIDEOS}
    write_manifest(tmp_path, labels)
    return EvaluateConfig(
        predictions=str(run), manifest=str(tmp_path / "manifest.parquet"), output=str(tmp_path / "report")
    )


def write_manifest(directory: Path, labels: dict[str, str | None]) -> None:
    splits = {video: split for video, _, split, *_ in VIDEOS}
    rows = [
        {schema.VIDEO_ID: v, "video_uri": f"/none/{v}", "label": label, "group": v, "split": splits.get(v, "test")}
        for v, label in labels.items()
    ]
    storage.publish_table(str(directory / "manifest.parquet"), pa.Table.from_pylist(rows, schema.MANIFEST))


def test_figures_are_those_of_the_held_out_split(config: EvaluateConfig) -> None:
    evaluation = report.evaluate(config)
    assert evaluation is not None
    assert evaluation.headline == "test"
    written = json.loads((Path(config.output) / "metrics.json").read_text())
    assert written["per_split"]["test"]["confusion"] == [[1, 1], [0, 1]]
    assert written["per_split"]["test"]["num_correct"] == 2
    assert {split: scores["num_videos"] for split, scores in written["per_split"].items()} == {
        "train": 1,
        "val": 1,
        "test": 3,
    }


def test_the_table_for_a_terminal(config: EvaluateConfig) -> None:
    evaluation = report.evaluate(config)
    assert evaluation is not None
    assert report.table(evaluation, "out").splitlines() == [
        "videos                        6",
        "ok                            5",
        "quarantined                   1 (truncated 1)",
        "videos per second             2.50",
        "accuracy on held-out sources  0.667 (2 of 3 videos, 95 % interval 0.21 to 0.94; chance 0.50)",
        "report                        out/index.html",
    ]


def test_names_from_the_archive_are_escaped(config: EvaluateConfig) -> None:
    report.evaluate(config)
    page = (Path(config.output) / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "cut &lt;b&gt;off&lt;/b&gt;" in page


def test_mistakes_on_held_out_sources_come_first_and_say_when_a_video_is_gone(config: EvaluateConfig) -> None:
    report.evaluate(config)
    page = (Path(config.output) / "index.html").read_text()
    assert "Misclassified videos (2, all splits)" in page
    assert page.index("/none/2") < page.index("/none/&lt;script")
    assert page.count("cannot be read any more") == 2


def test_unlabelled_and_unlisted_videos_are_counted_not_scored(config: EvaluateConfig, tmp_path: Path) -> None:
    write_manifest(tmp_path, {"1": "A", "2": None, "3": "B"})
    evaluation = report.evaluate(config)
    assert evaluation is not None
    assert (evaluation.num_unlabelled, evaluation.num_unmatched) == (1, 2)
    assert evaluation.per_split["test"].num_videos == 2


def test_a_manifest_of_other_videos_is_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    write_manifest(tmp_path, {"other": "A"})
    with pytest.raises(ConfigError, match="holds no labelled video that is in"):
        report.evaluate(config)


def test_labels_the_ensemble_does_not_know_are_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    write_manifest(tmp_path, {"1": "Z"})
    with pytest.raises(ConfigError, match=r"labels \['Z'\] are not classes of the ensemble \(\['A', 'B'\]\)"):
        report.evaluate(config)


def test_an_unfinished_classification_is_refused(config: EvaluateConfig) -> None:
    (Path(config.predictions) / ledger.SUMMARY_FILE).unlink()
    with pytest.raises(ConfigError, match="the job has not ended"):
        report.evaluate(config)


def test_a_directory_of_features_is_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    storage.publish_json(str(Path(config.predictions) / "run_identity.json"), {"ensemble_id": None})
    with pytest.raises(ConfigError, match=r"must be a directory that jobs/classify\.py wrote"):
        report.evaluate(config)
