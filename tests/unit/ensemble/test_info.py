"""`ensemble.json`: its exact content, and reading it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vidclf import storage
from vidclf.config import ModelConfig
from vidclf.ensemble.info import (
    Calibration,
    EnsembleCalibration,
    EnsembleInfo,
    FittedBackbone,
    LookInfo,
    TrustInfo,
    read_info,
    write_info,
)
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.ensemble.segment_temperature import SegmentCalibration
from vidclf.ensemble.views import ViewWeight
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.uncertainty.ood import OodLine
from vidclf.uncertainty.trust_score import SIGNS, TrustScore

OF_THREE_ORIGINS = Path(__file__).with_name("ensemble_of_three_origins.json")
"""Written by the version whose members, calibration, trust and looks were plain dictionaries. The segments and the id,
which was computed from the JSON alone, were added by hand."""

SPEC = FeatureSpec(
    backbone="efficientnet_lite0",
    weights_digest="0",
    sampling={"num_frames": 3},
    transform={},
    decoder="d",
    dtype="float16",
)
MEASURED = Calibration(temperature=1.5, ece_before=0.2, ece_after=0.1)
LINE = OodLine(distances=[2.0], line=1.0, level=0.95, num_videos=24)
SCORE = TrustScore(
    intercept=0.0,
    slope=1.0,
    weights=dict.fromkeys(SIGNS, 0.0),
    means=dict.fromkeys(SIGNS, 0.5),
    sds=dict.fromkeys(SIGNS, 1.0),
)
TRAINED = MemberRecord(
    file="member_0.safetensors",
    backbone="efficientnet_lite0",
    num_parameters=7,
    seed=3,
    digest="aa",
    recipe="r",
    attempts=1,
    epochs=2,
    duration_s=0.5,
    precision="fp32",
    best={"val_accuracy": 0.75},
)
IMPORTED = MemberRecord(
    file="member_1.safetensors",
    backbone="efficientnet_lite0",
    num_parameters=7,
    digest="bb",
    recipe="r",
    imported_from="best_ensemble_model_0.pt",
    best={"val_accuracy": 0.5},
)
FROM_TRIAL = MemberRecord(
    file="member_2.safetensors",
    backbone="efficientnet_lite0",
    num_parameters=7,
    seed=4,
    digest="cc",
    recipe="trial t1",
    trial={"lr": 0.1},
    attempts=2,
    epochs=5,
    duration_s=1.5,
    best={"val_accuracy": 1.0},
)
INFO = EnsembleInfo(
    classes=["A", "B"],
    backbones=[FittedBackbone.of(SPEC, "DEFAULT")],
    model=ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,)),
    members=[TRAINED, IMPORTED, FROM_TRIAL],
    training={"num_train_videos": 8, "val_accuracy": 0.75},
    versions={"vidclf": "0"},
    views=[
        ViewWeight(name="original", weight=0.75, gain=0.0, gain_se=0.0),
        ViewWeight(name="reverse", weight=0.25, gain=0.5, gain_se=0.125),
    ],
    calibration=EnsembleCalibration.of(12, MEASURED, MEASURED),
    trust=TrustInfo(digest="ff", ood=LINE, plain=SCORE, tta=SCORE),
    stages={
        "keyframes": LookInfo(
            num_frames=3,
            feature_specs=[SPEC],
            calibration=MEASURED,
            ood=LINE,
            trust=SCORE,
            val_accuracy=0.5,
        )
    },
    segments=[
        SegmentCalibration(num_frames=1, num_segments=36, temperature=2.5, ece_before=0.25, ece_after=0.0625),
    ],
)


def test_the_file_is_byte_identical_to_the_stored_one(tmp_path: Path) -> None:
    write_info(str(tmp_path), INFO)
    assert (tmp_path / "ensemble.json").read_bytes() == OF_THREE_ORIGINS.read_bytes()
    assert INFO.ensemble_id == "ec5e4c4b0258682a"


def test_the_stored_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_bytes(OF_THREE_ORIGINS.read_bytes())
    assert read_info(str(tmp_path)) == INFO


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (
            TRAINED,
            "file backbone num_parameters seed digest recipe attempts epochs duration_s precision placement "
            "peak_gpu_memory_bytes best",
        ),
        (IMPORTED, "file backbone num_parameters digest recipe imported_from best"),
        (FROM_TRIAL, "file backbone num_parameters seed digest recipe trial attempts epochs duration_s best"),
    ],
)
def test_a_record_holds_the_facts_of_its_origin(record: MemberRecord, names: str) -> None:
    assert list(record.as_json()) == names.split()
    assert MemberRecord.read({**record.as_json(), "fact_of_a_later_version": 1}) == record


def test_an_ensemble_without_early_looks_is_read_and_keeps_its_id(tmp_path: Path) -> None:
    info = replace(INFO, stages={})
    values = info.as_json()
    del values["stages"]
    storage.publish_json(str(tmp_path / "ensemble.json"), values)
    assert read_info(str(tmp_path)) == info


def test_an_ensemble_without_temperatures_of_segments_must_be_calibrated_again(tmp_path: Path) -> None:
    # As the version before wrote it, with its id.
    values = {**replace(INFO, segments=[]).as_json(), "ensemble_id": "9bb69a43c34e4489"}
    del values["segments"]
    storage.publish_json(str(tmp_path / "ensemble.json"), values)
    expected = r"ensemble\.json: was calibrated by an earlier version without temperatures of segments; run jobs/train"
    with pytest.raises(OutdatedEnsembleError, match=expected):
        read_info(str(tmp_path))
    assert read_info(str(tmp_path), accepts_outdated=True) == replace(INFO, segments=[])


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("hidden_dim", 6),
        ("num_lstm_layers", 2),
        ("num_attention_heads", 4),
        ("projection_dim", 5),
        ("pooling_dim", 5),
        ("num_frames", 2),
        ("classifier_dims", (4, 4)),
        ("classifier_norm", "layer"),
    ],
)
def test_every_size_of_the_model_changes_the_id(size: str, value: object) -> None:
    resized = replace(INFO, model=replace(INFO.model, **{size: value}))  # type: ignore[arg-type]
    assert resized.ensemble_id != INFO.ensemble_id


def test_dropout_is_off_when_a_model_classifies_and_does_not_change_the_id() -> None:
    assert replace(INFO, model=replace(INFO.model, dropout=0.9)).ensemble_id == INFO.ensemble_id


@pytest.mark.parametrize("part", ["views", "calibration", "trust", "stages", "segments", "members"])
def test_a_part_of_another_form_is_refused(tmp_path: Path, part: str) -> None:
    storage.publish_json(str(tmp_path / "ensemble.json"), {**INFO.as_json(), part: ["x"]})
    with pytest.raises(ConfigError, match=r"not an ensemble that jobs/train\.py wrote"):
        read_info(str(tmp_path))


def test_a_file_that_is_too_large_or_too_deep_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.json"
    with path.open("wb") as file:
        file.truncate(64 * 1024**2 + 1)  # a sparse file: it takes no space on the disk
    expected = r"not an ensemble that jobs/train\.py wrote \(.*must be at most 67108864 bytes, is 67108865"
    with pytest.raises(ConfigError, match=expected):
        read_info(str(tmp_path))
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ConfigError, match=r"not an ensemble that jobs/train\.py wrote \(.*nested too deeply"):
        read_info(str(tmp_path))
