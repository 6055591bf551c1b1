"""Cross-validation with `--folds`, on features whose result is known. Members are trained in this process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jobs.train import summary_text
from tests.support.features import LITE0
from vidclf.config import TrainConfig
from vidclf.ensemble import files
from vidclf.ensemble.info import read_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.training import fold_training, train
from vidclf.training.dataset import TrainingData
from vidclf.training.fold_training import Folds
from vidclf.training.member_fit import fit_member
from vidclf.training.member_plan import MemberPlan
from vidclf.training.member_worker import publish_record

FOLD_OF = {
    **{"a0": 0, "a1": 1, "a2": 2, "a3": 0, "a4": 1, "a5": 2, "odd": 0},
    **{"b0": 1, "b1": 2, "b2": 0, "b3": 1, "b4": 2, "b5": 0},
}
"""Fold of each source out of three: class by class, in the order of the names."""


def features() -> FeatureSet:
    """Two videos from each of 12 sources of two classes that are easy to tell apart, and four of the source `odd`.

    The source `odd` is of class A but looks like class B, so members that have not seen it take it for B.
    """
    generator = np.random.default_rng(0)
    mean_CD = generator.normal(size=(2, LITE0.feature_dim))
    groups = [source for source in FOLD_OF for _ in range(4 if source == "odd" else 2)]
    names = [f"{source}-{index:02}" for index, source in enumerate(groups)]
    return FeatureSet(
        spec=LITE0,
        video_ids=names,
        video_uris=names,
        labels=["B" if source.startswith("b") else "A" for source in groups],
        sublabels=[None] * len(names),
        groups=groups,
        splits=["val" if source[1] in "45d" else "train" for source in groups],
        content_digests=names,
        features=[
            (mean_CD[int(source[0] != "a")] + 0.5 * generator.normal(size=(2, LITE0.feature_dim))).astype(np.float16)
            for source in groups
        ],
    )


def config(output: Path, folds: int = 3) -> TrainConfig:
    return TrainConfig(
        features=("made in the test",),
        output=str(output),
        members=1,
        hidden_dim=8,
        num_lstm_layers=1,
        num_attention_heads=2,
        classifier_dims=(8,),
        epochs=8,
        warmup_epochs=0,
        lr=1e-2,
        batch_size=8,
        near_duplicate_cosine=1.0,
        folds=folds,
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Members are trained without Ray. The list gets the output directory of each training."""
    outputs: list[str] = []

    def train_here(
        config: TrainConfig, data: list[TrainingData], members: list[MemberPlan], missing: list[int], gpus: float
    ) -> None:
        outputs.append(Path(config.output).name)
        for index in missing:
            plan = members[index]
            fitted = fit_member(data[plan.data], config, config.seed + index, torch.device("cpu"))
            best = {"val_accuracy": 1.0, "val_macro_f1": 1.0, "val_weighted_f1": 1.0, "val_f1": [1.0, 1.0], "number": 1}
            member = MemberRecord(
                file=files.member_file(index),
                backbone=plan.backbone,
                digest=files.write_member(config.output, index, fitted.state),
                recipe=plan.recipe,
                num_parameters=1,
                attempts=1,
                epochs=1,
                duration_s=1.0,
                best=best,
            )
            publish_record(config.output, index, member, [])

    monkeypatch.setattr(train, "train_members", train_here)
    monkeypatch.setattr(fold_training, "train_members", train_here)
    monkeypatch.setattr(train, "_share", lambda config, data: 0.0)
    return outputs


def folds_of(made: FeatureSet, chosen: TrainConfig) -> Folds | None:
    return train.prepare(chosen, [made], ["DEFAULT"], ()).folds


def test_sources_are_dealt_to_the_folds_class_by_class(tmp_path: Path) -> None:
    made = features()
    folds = folds_of(made, config(tmp_path / "out"))
    assert folds is not None
    assert dict(zip(made.groups, folds.fold_B.tolist(), strict=True)) == FOLD_OF
    # The next fold selects the best epochs.
    assert dict(zip(made.groups, folds.splits(2), strict=True)) == {
        source: {0: "val", 1: "train", 2: "test"}[fold] for source, fold in FOLD_OF.items()
    }
    assert folds_of(made, config(tmp_path / "out", folds=0)) is None


def test_near_duplicates_are_in_one_fold(tmp_path: Path) -> None:
    made = features()
    copy = made.groups.index("a1")
    assert folds_of(made, config(tmp_path / "out")).fold_B[[0, copy]].tolist() == [0, 1]  # type: ignore[union-attr]
    digests = [made.content_digests[0 if index == copy else index] for index in range(len(made.groups))]
    made = replace(made, content_digests=digests)
    folds = folds_of(made, config(tmp_path / "out"))
    assert folds is not None
    assert folds.fold_B[0] == folds.fold_B[copy]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (2, "--folds must be 0 or at least 3, got 2"),
        (7, "--folds must be at most the number of sources of each class, got 7; class 'B' has 6"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(tmp_path: Path, folds: int, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        train.prepare(config(tmp_path / "out", folds), [features()], ["DEFAULT"], ())
    assert not (tmp_path / "out").exists()


def test_nothing_is_cross_validated_for_an_import(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--folds must be 0 with --import-reference"):
        TrainConfig(features=("f",), output="o", import_reference="d", reference_classes=("A", "B"), folds=3)


def run(made: FeatureSet, chosen: TrainConfig) -> dict[str, object]:
    plan = train.prepare(chosen, [made], ["DEFAULT"], ())
    train.execute(plan)
    return train.summary(plan)


def test_every_video_is_classified_by_members_that_have_not_seen_its_source(
    tmp_path: Path, trained: Sequence[str]
) -> None:
    made, output = features(), tmp_path / "out"
    assert "cross_validation" not in run(made, config(output, folds=0))
    ensemble_id = read_info(str(output)).ensemble_id
    summary = run(made, config(output))
    # The four videos of `odd` are wrong, of 28 videos and 13 sources.
    assert summary_text(config(output), summary).splitlines()[-1] == (
        "  cross-validation: accuracy 0.857 (24 of 28 videos, 95 % interval 0.55 to 0.99); "
        "mean of the 13 sources 0.923 (95 % interval 0.64 to 1.00); 3 folds"
    )
    assert trained == ["out", "fold_0", "fold_1", "fold_2"]
    rows = pq.read_table(output / "folds.parquet").to_pylist()
    assert {row["group"]: row["fold"] for row in rows} == FOLD_OF
    assert {row["group"] for row in rows if row["label"] != row["top_label"]} == {"odd"}
    # The ensemble is the same, and the members of the folds are gone.
    assert read_info(str(output)).ensemble_id == ensemble_id
    assert not (output / "_folds").exists()
    # A job that is submitted again has nothing to do.
    assert run(made, config(output)) == {**summary, "num_trained": 0, "was_calibrated": False}
    assert len(trained) == 4
    # The figures are kept with the folds, for an ensemble that is calibrated anew.
    folds = folds_of(made, config(output))
    assert folds is not None
    record = fold_training.recorded(str(output), folds)
    assert record is not None
    assert record.num_correct == 24
    assert fold_training.recorded(str(output), replace(folds, recipe="other")) is None


def test_a_cross_validation_continues(tmp_path: Path, trained: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made, output = features(), tmp_path / "out"
    train_here = fold_training.train_members

    def killed(config: TrainConfig, *rest: object) -> None:
        if config.output.endswith("fold_1"):
            raise KeyboardInterrupt
        train_here(config, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fold_training, "train_members", killed)
    with pytest.raises(KeyboardInterrupt):
        run(made, config(output))
    assert "cross_validation" not in read_info(str(output)).training
    monkeypatch.setattr(fold_training, "train_members", train_here)
    run(made, config(output))
    assert trained == ["out", "fold_0", "fold_1", "fold_2"]


def test_the_linear_member_is_named_in_the_summary_and_comes_and_goes_without_training(
    tmp_path: Path, trained: Sequence[str]
) -> None:
    made, output = features(), tmp_path / "out"
    summary = run(made, config(output, folds=0))
    line = summary_text(config(output), summary).splitlines()[-1]
    assert re.fullmatch(
        r"  linear member: accuracy \d\.\d{3}, macro F1 \d\.\d{3}, weighted F1 \d\.\d{3}, worst class [AB] \d\.\d{3}; "
        r"weight \d\.\d\d in the average, accuracy without it \d\.\d{3}",
        line,
    ), line
    with_linear = read_info(str(output)).ensemble_id
    assert not train.prepare(config(output, folds=0), [made], ["DEFAULT"], ()).needs_calibration
    without = replace(config(output, folds=0), linear_member="none")
    assert run(made, without)["linear_member"] is None
    assert read_info(str(output)).ensemble_id != with_linear
    run(made, config(output, folds=0))
    assert read_info(str(output)).ensemble_id == with_linear
    assert trained == ["out"]


def test_a_cross_calibration_judges_every_video_by_members_that_left_it_out(
    tmp_path: Path, trained: Sequence[str]
) -> None:
    made, output = features(), tmp_path / "out"
    chosen = replace(config(output, folds=0), members=3, calibration="cross")
    plan = train.prepare(chosen, [made], ["DEFAULT"], ())
    assert (plan.config.selection, plan.config.epochs) == ("last", 8)
    assert [member.data for member in plan.members] == [0, 1, 2]
    assert len({member.recipe for member in plan.members}) == 3
    summary = run(made, chosen)
    # Members that were trained on the source `odd` know it; those that left it out take its four videos for class B.
    assert summary_text(chosen, summary).splitlines()[0].split("; ")[1] == (
        "on 28 videos, each judged by the members that left it out: accuracy 0.857, macro F1 0.857, weighted F1 0.857, "
        "worst class A 0.857"
    )
    info = read_info(str(output))
    assert (info.training["calibration"], info.training["num_left_out_folds"]) == ("cross", 3)
    assert (info.training["num_train_videos"], info.training["num_val_videos"]) == (28, 0)
    assert (info.calibration.num_videos, info.trust.ood.num_videos) == (28, 28)
    ensemble = files.load(str(output), torch.device("cpu"))
    scores, truth = ensemble.trust.full["plain"], ensemble.trust.truth["plain"]
    judged = dict(zip(made.groups, scores.correct_B.tolist(), strict=True))
    assert [group for group, is_correct in judged.items() if not is_correct] == ["odd"]
    assert len(set(scores.source_B.tolist())) == len(set(truth.source_B.tolist())) == 13
    # One member judges a video out of fold, so that the agreement of members says nothing.
    assert info.trust.plain.weights["member_agreement"] == 0.0
    assert pq.read_table(output / "splits.parquet")["split"].to_pylist() == ["train"] * 28
    # A job that is submitted again has nothing to do, and no other calibration takes over these members.
    assert run(made, chosen) == {**summary, "num_trained": 0, "was_calibrated": False}
    with pytest.raises(ConfigError, match="member 0 was trained on other features or with other settings"):
        train.prepare(replace(chosen, calibration="validation"), [made], ["DEFAULT"], ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"members": 1}, "--members must be at least 2 with --calibration cross, so that"),
        ({"recipe": "reference"}, "--calibration must be validation with --recipe reference and with --import-ref"),
        (
            {"import_reference": "d", "reference_classes": ("A", "B")},
            "--calibration must be validation with --recipe reference and with --import-reference, whose members",
        ),
    ],
)
def test_a_cross_calibration_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainConfig(features=("f",), output="o", calibration="cross", **values)


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({}, True),
        ({"linear_member": "none"}, False),
        ({"recipe": "reference"}, False),
        ({"import_reference": "d", "reference_classes": ("A", "B")}, False),
    ],
)
def test_the_reference_system_has_no_linear_member(values: dict[str, Any], fits: bool) -> None:
    assert TrainConfig(features=("f",), output="o", **values).fits_linear_member == fits
