"""The calibration that `train --calibration auto` chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.ensembles import write_small_ensemble
from tests.support.features import LITE0, half_and_half
from vidclf.config import TrainConfig
from vidclf.ensemble.info import read_info, write_info
from vidclf.training.calibration_choice import CalibrationChoice, choose_calibration


def choice(output: Path, num_videos: int, *, num_different: int | None = None, **values: Any) -> CalibrationChoice:
    """The choice for two classes with half of the videos each; each video is a source of its own. Only `num_different`
    of them, if given, are no near duplicates of others."""
    generator = np.random.default_rng(0)
    rows = [generator.normal(size=(1, LITE0.feature_dim)).astype(np.float16) for _ in range(num_videos)]
    if num_different is not None:
        rows = [rows[index % num_different] for index in range(num_videos)]
    features = half_and_half(LITE0, rows)
    return choose_calibration(TrainConfig(features=("f",), output=str(output), **values), features)


def test_a_small_archive_with_enough_sources_is_cross_calibrated(tmp_path: Path) -> None:
    chosen = [choice(tmp_path, number) for number in (18, 20, 498, 500)]
    assert [one.config.calibration for one in chosen] == ["validation", "cross", "cross", "validation"]
    assert [one.line for one in chosen] == [
        "calibration: on the validation split (--calibration validation), as class 'A' has fewer than 10 sources",
        "calibration: on all train and validation videos (--calibration cross), as each class has at least 10 "
        "sources, all together fewer than 500; validation videos are train videos, --patience and --selection have no "
        "effect",
        chosen[1].line,
        "calibration: on the validation split (--calibration validation), as there are at least 500 sources",
    ]
    assert {split for split in chosen[1].assignment.features.splits if split != "test"} == {"train"}


def test_near_duplicates_count_as_one_source(tmp_path: Path) -> None:
    chosen = choice(tmp_path, 40, num_different=2)
    assert chosen.line.endswith("(--calibration validation), as class 'A' has fewer than 10 sources")
    assert chosen.config.calibration == "validation"
    # 600 videos, which are 40 sources.
    assert choice(tmp_path, 600, num_different=40).config.calibration == "cross"


def test_what_is_given_is_not_changed(tmp_path: Path) -> None:
    given = [choice(tmp_path, 18, calibration="cross"), choice(tmp_path, 40, calibration="validation")]
    assert [(one.config.calibration, one.line) for one in given] == [("cross", ""), ("validation", "")]
    kept = [choice(tmp_path, 40, **values) for values in ({"members": 1}, {"recipe": "reference"})]
    assert [(one.config.calibration, one.line) for one in kept] == [("validation", "")] * 2


def test_an_ensemble_that_is_there_keeps_its_calibration(tmp_path: Path) -> None:
    write_small_ensemble(tmp_path / "out", ["A", "B"], 4, is_tiny=True)
    chosen = choice(tmp_path / "out", 40)
    assert chosen.config.calibration == "validation"
    assert chosen.line.endswith("(--calibration validation), as that of the ensemble in --output")
    assert choice(tmp_path / "out", 40, overwrite=True).config.calibration == "cross"
    info = read_info(str(tmp_path / "out"))
    training = {**info.training, "calibration": "cross"}
    write_info(str(tmp_path / "out"), replace(info, training=training))
    assert choice(tmp_path / "out", 500).config.calibration == "cross"
