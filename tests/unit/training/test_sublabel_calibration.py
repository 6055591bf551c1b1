"""Calibration of sublabels, the ensemble that is read back, and the columns of its predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.support.features import LITE0, half_and_half
from vidclf import storage
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import ModelConfig
from vidclf.ensemble import files
from vidclf.ensemble.info import EnsembleInfo, FittedBackbone, MembersInfo, read_info, write_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features.columns import features_column
from vidclf.features.feature_set import FeatureSet
from vidclf.training.calibrate import calibrate

MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
TAXONOMY = {"A": ["a1", "a2", "a3"]}


def videos() -> FeatureSet:
    """24 videos of A and B by turns, half of them in val. In val, A has the sublabels a1, a2, a3, an unknown one, none
    and a1."""
    generator = np.random.default_rng(0)
    features = half_and_half(LITE0, [generator.normal(size=(3, 1280)).astype(np.float16) for _ in range(24)])
    of_val = ["a1", "b", "a2", "b", "a3", "b", "other", "b", None, "b", "a1", "b"]
    return replace(features, sublabels=[*(["a1", "b", "a2", "b"] * 3), *of_val])


def calibrated(directory: Path, features: FeatureSet) -> EnsembleInfo:
    """An ensemble of two members with random weights."""
    members = []
    for index in range(2):
        torch.manual_seed(index)
        digest = files.write_member(str(directory), index, TemporalClassifier(1280, 5, MODEL).state_dict())
        members.append(MemberRecord(file=files.member_file(index), backbone="efficientnet_lite0", digest=digest))
    uncalibrated = MembersInfo(
        classes=["A", "B"],
        taxonomy=TAXONOMY,
        backbones=[FittedBackbone.of(features.spec, "DEFAULT")],
        model=MODEL,
        members=members,
        training={},
        versions={},
    )
    info = calibrate(str(directory), uncalibrated, [features], has_linear_member=True)
    write_info(str(directory), info)
    return info


def test_sublabels_are_calibrated_read_back_and_written_as_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = videos()
    info = calibrated(tmp_path, features)
    assert read_info(str(tmp_path)) == info
    assert info.sublabels is not None
    # Known sublabels in val: a1, a2, a3 and a1. "other" is not in the taxonomy.
    assert (info.sublabels.num_videos, set(info.sublabels.temperatures)) == (4, {"plain", "tta"})
    loaded = files.load(str(tmp_path), torch.device("cpu"))
    scores = loaded.trust.sublabels["plain"]
    output = loaded([features.features[12:]])
    assert output.probabilities_BC.shape == (12, 2)
    assert output.conditional_BL is not None
    np.testing.assert_allclose(output.conditional_BL.sum(axis=1), 1, atol=1e-6)
    class_B = output.probabilities_BC.argmax(axis=1)
    top_B = output.conditional_BL.argmax(axis=1)
    truth = ["a1", "b", "a2", "b", "a3", "b", "other", "b", None, "b", "a1", "b"]
    expected = []
    for video, name in enumerate(truth):
        if video == 8:  # whatever its predicted class
            expected.append(-1)
        else:
            expected.append(int(class_B[video] == 0 and TAXONOMY["A"][top_B[video]] == name))
    assert scores.right_B.tolist() == expected
    assert ((scores.trust_B > 0) == (class_B == 0)).all()
    assert (scores.trust_B <= loaded.trust.full["plain"].trust_B).all()

    leaves = loaded.trust.leaves["plain"]
    assert leaves.label_B.tolist() == [0, 3, 1, 3, 2, 3, -1, 3, -1, 3, 0, 3]  # A/a1, A/a2, A/a3 and B
    of_B = leaves.label_B == 3
    np.testing.assert_array_equal(leaves.truth_B[of_B], loaded.trust.truth["plain"].truth_B[of_B])
    assert (leaves.truth_B[leaves.label_B == 0] < loaded.trust.truth["plain"].truth_B[leaves.label_B == 0]).all()

    settings = HeadSettings(tta=False, trust_threshold=0.0, segments_s=None, sublabel_threshold=0.0)
    table = pa.table({"features": features_column(list(features.features[12:]), 1280)})
    rows = EnsembleHead(str(tmp_path), settings, "cpu", precision="fp32")([table]).to_pylist()
    for row, one, index in zip(rows, class_B, top_B, strict=True):
        within = row["sublabel_probabilities"][index]
        accepted = row["verdict"] == "accepted"
        if one == 1:
            assert (row["top_sublabel"], row["sublabel_confidence"], row["sublabel_trust"]) == (None, None, None)
            assert row["answer_level"] == ("class" if accepted else "abstained")
        else:
            assert row["top_sublabel"] == TAXONOMY["A"][index]
            assert row["sublabel_confidence"] == pytest.approx(row["confidence"] * within, rel=1e-5)
            assert row["sublabel_trust"] == pytest.approx(row["trust_score"] * within, rel=1e-5)
            assert row["answer_level"] == ("sublabel" if accepted else "abstained")
        assert row["sublabel"] == (row["top_sublabel"] if accepted else None)
    assert {row["sublabel_set"] for row in rows} == {None}
    # All leaves, or only the most probable one.
    for lowest, size in ((0.0, 4), (1.0, 1)):
        with_sets = replace(settings, sublabel_set_thresholds=(lowest,) * 4)
        rows = EnsembleHead(str(tmp_path), with_sets, "cpu", precision="fp32")([table]).to_pylist()
        assert {len(row["sublabel_set"]) for row in rows} == {size}
    # Six sources of B; three known ones of A together, where 0.5 takes one.
    sets = loaded.trust.sublabel_set_thresholds("plain", info.hierarchy, 0.5)
    assert sets is not None
    assert sets.num_sources_N == (2, 1, 1, 6)
    earlier = replace(loaded.trust, leaves={})
    capsys.readouterr()
    assert earlier.sublabel_set_thresholds("plain", info.hierarchy, None) is None
    assert capsys.readouterr().err == ""
    # Sets of classes remain.
    assert earlier.set_thresholds("plain", 2, 0.5) == loaded.trust.set_thresholds("plain", 2, 0.5)
    assert earlier.sublabel_set_thresholds("plain", info.hierarchy, 0.5) is None
    assert capsys.readouterr().err == (
        "sublabel_set is null, because an earlier version calibrated the ensemble; for prediction sets of sublabels "
        "run jobs/train.py again with its --features and --output, which keeps the members\n"
    )
    strict = replace(settings, sublabel_threshold=2.0)
    rows = EnsembleHead(str(tmp_path), strict, "cpu", precision="fp32")([table]).to_pylist()
    assert {row["answer_level"] for row in rows} <= {"class", "abstained"}
    assert {row["sublabel"] for row in rows} == {None}


def test_a_taxonomy_that_was_edited_is_refused(tmp_path: Path) -> None:
    calibrated(tmp_path, videos())
    path = str(tmp_path / "ensemble.json")
    values = storage.read_json(path)
    for taxonomy, message in (
        ({"A": ["a1", "a1", "a3"]}, "sublabels of A must be at least 2, each once"),
        ({"Z": ["a1", "a2", "a3"]}, "classes of the taxonomy must be of"),
        ({}, "sublabels must be present exactly with a taxonomy"),
        ({"A": ["a1", "a2", "a4"]}, "was changed since it was written"),
    ):
        storage.publish_json(path, {**values, "taxonomy": taxonomy})
        with pytest.raises(ConfigError, match=message):
            read_info(str(tmp_path))
