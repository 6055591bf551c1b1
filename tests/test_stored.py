"""Features that are stored already, classified as a job would, and evaluated."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vidclf import ledger, schema, storage
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ConfigError, EvaluateConfig, ModelConfig
from vidclf.features.store import FeatureSpec, features_column
from vidclf.learning import ensemble, views
from vidclf.learning.ensemble import EnsembleInfo, FittedBackbone, TrustData
from vidclf.learning.model import TemporalClassifier
from vidclf.learning.trust import SIGNS, FeatureSpace
from vidclf.prediction import report

CLASSES = ["A", "B"]
MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
SPEC = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=3))
SPLITS = ["test", "train", "test", "test"]
LABELS = ["A", "A", "B", "B"]
CONFIDENCE_IS_TRUST = {
    "intercept": 0.0,
    "slope": 1.0,
    "weights": dict.fromkeys(SIGNS, 0.0),
    "means": dict.fromkeys(SIGNS, 0.0),
    "sds": dict.fromkeys(SIGNS, 1.0),
}


def sequences() -> list[Any]:
    return [np.full((frames, 1280), value, np.float16) for frames, value in ((3, 0.5), (2, 0.1), (1, 0.9), (3, 0.0))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two members with random weights, and the history of the first one."""
    directory = str(tmp_path_factory.mktemp("ensemble"))
    members = []
    for index in range(2):
        torch.manual_seed(index)
        digest = ensemble.write_member(directory, index, TemporalClassifier(1280, 2, MODEL).state_dict())
        members.append({"file": ensemble.member_file(index), "backbone": SPEC.backbone, "digest": digest})
    epoch = {"number": 1, "lr": 0.1, "train_loss": 0.7, "val_loss": 0.6, "val_accuracy": 0.5, "val_macro_f1": 0.4}
    storage.publish_json(f"{directory}/member_0.json", {"member": {}, "history": [epoch]})
    space = FeatureSpace(means_CD=np.zeros((2, 1280), np.float32), precision_DD=np.eye(1280, dtype=np.float32))
    seen_B = np.linspace(0.5, 1, 20, dtype=np.float32)
    data = TrustData(
        spaces=[space],
        validation_trust_B={"plain": seen_B, "tta": seen_B},
        validation_correct_B={"plain": seen_B > 0.6, "tta": seen_B > 0.6},
    )
    trust = {"ood": {"distances": [1e6], "line": 1.0}, "plain": CONFIDENCE_IS_TRUST, "tta": CONFIDENCE_IS_TRUST}
    measured = {"temperature": 1.0, "ece_before": 0.2, "ece_after": 0.1}
    info = EnsembleInfo(
        classes=CLASSES,
        backbones=[FittedBackbone.of(SPEC, "DEFAULT")],
        model=MODEL,
        members=members,
        training={},
        versions={},
        views=[{"name": name, "weight": 0.25} for name in views.VIEWS],
        calibration={"num_videos": 20, **measured, "tta": measured},
        trust={**trust, "digest": ensemble.write_trust(directory, data)},
    )
    ensemble.write_info(directory, info)
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished features directory of two shards."""
    directory = str(tmp_path_factory.mktemp("features"))
    num_frames = [len(rows_TD) for rows_TD in sequences()]
    told: dict[str, Any] = {
        "video_id": [f"id{i}" for i in range(4)],
        "video_uri": [f"/none/{i}.mp4" for i in range(4)],
        "label": LABELS,
        "sublabel": ["s"] * 4,
        "group": [f"g{i}" for i in range(4)],
        "split": SPLITS,
    }
    facts: dict[str, Any] = {
        "size_bytes": [1] * 4,
        "modified": [None] * 4,
        "content_digest": ["xxh3:0"] * 4,
        "num_frames": num_frames,
        "duration_s": [9.0] * 4,
        "width": [640] * 4,
        "height": [360] * 4,
        "framerate": [30.0] * 4,
        "video_codec": ["h264"] * 4,
        "pts_s": [[0.5 * i for i in range(n)] for n in num_frames],
        "is_black": [[False] * n for n in num_frames],
        "all_black": [False] * 4,
        "luma_mean": [[0.5] * n for n in num_frames],
        "sharpness": [[1.0] * n for n in num_frames],
        "is_near_duplicate": [[False] * n for n in num_frames],
        "is_blurry": [False] * 4,
        "features": features_column(sequences(), 1280),
        "feature_key": [SPEC.key] * 4,
    }
    columns = schema.features(1280)
    values = told | facts
    arrays = [
        values[f.name] if isinstance(values[f.name], pa.Array) else pa.array(values[f.name], f.type) for f in columns
    ]
    table = pa.table(arrays, schema=columns)
    storage.publish_table(f"{directory}/part-0.parquet", table.slice(0, 2))
    storage.publish_table(f"{directory}/part-1.parquet", table.slice(2))
    storage.publish_json(f"{directory}/run_identity.json", {"feature_specs": [asdict(SPEC)], "weights": ["DEFAULT"]})
    manifest = pa.table({**told, "size_bytes": [None] * 4}, schema=schema.MANIFEST)
    storage.publish_table(f"{directory}/{ledger.MANIFEST_FILE}", manifest)
    return directory


def hdf5_file(path: Path, classes: list[str]) -> str:
    """The test split as the reference system would have it; it numbers the classes in its own order."""
    rows = [rows_TD for rows_TD, split in zip(sequences(), SPLITS, strict=True) if split == "test"]
    labels = [label for label, split in zip(LABELS, SPLITS, strict=True) if split == "test"]
    padded_NTD = np.zeros((len(rows), 3, 1280), np.float32)
    for index, rows_TD in enumerate(rows):
        padded_NTD[index, : len(rows_TD)] = rows_TD
    with h5py.File(path, "w") as file:
        file["features"] = padded_NTD
        file["labels"] = np.array([classes.index(label) for label in labels], np.int64)
        file["num_frames"] = np.array([len(rows_TD) for rows_TD in rows], np.int32)
        file.attrs["category_mapping"] = str({name: i for i, name in enumerate(classes)}).replace("'", '"')
    return str(path)


def evaluate(features: str, trained: str, output: Path, **options: Any) -> tuple[report.Evaluation, pa.Table]:
    config = EvaluateConfig(features=(features,), ensemble=trained, output=str(output), **options)
    result = report.evaluate(config)
    assert result is not None
    return result, pq.read_table(output / "predictions.parquet")


def test_a_features_directory_is_classified_and_scored(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path)
    assert rows["video_id"].to_pylist() == ["id0", "id2", "id3"]
    schema.conform(rows, schema.predictions(2), "what a job would have written")
    expected_BC = ensemble.load(trained, torch.device("cpu"))([[sequences()[i] for i in (0, 2, 3)]]).probabilities_BC
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), expected_BC, atol=1e-6)
    assert result.per_split["test"].num_videos == 3
    assert [len(history) for history in result.training] == [1, 0]
    assert result.calibration["ece_before"] == 0.2
    page = (tmp_path / "index.html").read_text()
    assert "member 0, 1 epochs" in page
    assert "Classified without test-time views" in page


def test_views_vote_with_tta(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path, tta=True)
    assert [len(row) for row in rows["view_probabilities"].to_pylist()] == [4, 4, 4]
    names = ["original", "reverse", "faster", "slower", "all, weighted"]
    assert [voter.name for voter in result.detail.views] == names
    assert result.view_weights == dict.fromkeys(names[:4], 0.25)


def test_all_splits_are_scored_apart(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path, split="all")
    assert {split: scores.num_videos for split, scores in result.per_split.items()} == {"train": 1, "test": 3}
    assert rows.num_rows == 4


def test_hdf5_gives_the_same_probabilities_and_no_facts_that_it_does_not_hold(
    run: str, trained: str, tmp_path: Path
) -> None:
    of_run, run_rows = evaluate(run, trained, tmp_path / "run")
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["B", "A"])
    of_file, rows = evaluate(file, trained, tmp_path / "file")
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), run_rows["probabilities"].to_pylist(), atol=1e-6)
    assert of_file.per_split["test"].confusion == of_run.per_split["test"].confusion
    assert rows["video_uri"].to_pylist() == [f"{file}#{index}" for index in range(3)]
    assert rows["num_frames"].to_pylist() == [3, 1, 3]
    assert rows["video_codec"].to_pylist() == rows["pts_s"].to_pylist() == [None] * 3
    assert of_file.summary is None
    assert [share.name for share in of_file.detail.by["codec"]] == ["unknown"]
    page = (tmp_path / "file/index.html").read_text()
    assert "The features came as HDF5" in page


def test_what_does_not_fit_is_refused(run: str, trained: str, tmp_path: Path) -> None:
    def refused(features: str, **options: Any) -> str:
        with pytest.raises(ConfigError) as error:
            evaluate(features, trained, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
        return str(error.value)

    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["A", "B"])
    assert refused(file, split="val").startswith("--split must be test, by the name of")
    assert refused(file, split="all").startswith("--split must say which of train, val, test the file")
    assert "is in it; its splits are test, train" in refused(run, split="val")
    assert "no such file" in refused(str(tmp_path / "none.h5"))
    other = tmp_path / "other"
    storage.publish_json(f"{other}/run_identity.json", {"feature_specs": [asdict(replace(SPEC, weights_digest="x"))]})
    assert "weights_digest: digest != x" in refused(str(other))


def test_a_dry_run_classifies_nothing(
    run: str, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(features=(run,), ensemble=trained, output=str(tmp_path / "out"), dry_run=True)
    assert report.evaluate(config) is None
    assert capsys.readouterr().out == f"would classify and score 3 videos into {tmp_path}/out\n"
    assert not (tmp_path / "out").exists()
