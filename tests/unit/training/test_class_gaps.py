"""Videos without a label and classes without validation or test videos are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.features import pair
from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.training import train
from vidclf.training.class_gaps import gap_lines, labelled, unlabelled_line
from vidclf.training.dataset import training_data

REMEDY = "so that nothing is measured of them there; add sources of them, or give other fractions with --split"


def features_of(labels: str, splits: str) -> FeatureSet:
    """One video per letter of `labels` ("-" for none), in train, val or test by the first letters of `splits`."""
    numbers = range(len(labels))
    names = {"r": "train", "v": "val", "t": "test"}
    return FeatureSet(
        spec=pair()[0].spec,
        video_ids=[str(number) for number in numbers],
        video_uris=[f"/v/{number}.mp4" for number in numbers],
        labels=[None if label == "-" else label for label in labels],
        sublabels=[None] * len(labels),
        groups=[f"s{number}" for number in numbers],
        splits=[names[split] for split in splits],
        content_digests=[str(number) for number in numbers],
        features=[np.full((2, 3), number, np.float16) for number in numbers],
    )


def test_a_class_without_validation_or_test_videos_is_named() -> None:
    assert gap_lines(features_of("AABBCC", "rvrvrv")) == []
    assert gap_lines(features_of("AABBCC", "rvrvrr")) == [
        f"splits: 1 of 3 classes has no validation videos ('C'), {REMEDY}"
    ]
    assert gap_lines(features_of("AABBCC", "rvrtrv")) == [
        f"splits: 1 of 3 classes has no validation videos ('B'), {REMEDY}",
        f"splits: 2 of 3 classes have no test videos ('A', 'C'), {REMEDY}",
    ]
    assert gap_lines(features_of("ABCDEFGH", "vrrrrrrr")) == [
        f"splits: 7 of 8 classes have no validation videos ('B', 'C', 'D', 'E', 'F' and 2 more), {REMEDY}"
    ]


def test_unlabelled_videos_are_left_out_with_a_count() -> None:
    features = features_of("A-BA-B", "rrrvvv")
    assert unlabelled_line(features) == "labels: 2 of 6 videos have no label and are left out (for one /v/1.mp4)"
    assert labelled(features).video_ids == ["0", "2", "3", "5"]
    assert [rows_TD[0, 0] for rows_TD in labelled(features).features] == [0, 2, 3, 5]
    assert unlabelled_line(features_of("AB-", "rrr")) == (
        "labels: 1 of 3 videos has no label and is left out (for one /v/2.mp4)"
    )
    assert unlabelled_line(features_of("AB", "rv")) is None
    assert unlabelled_line(features_of("--", "rv")) is None
    assert labelled(features_of("--", "rv")).labels == [None, None]


def test_a_training_job_names_both_and_trains_on_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [replace(features, labels=[None, *features.labels[1:]]) for features in pair()]
    config = TrainConfig(
        features=("a", "b"), output=f"{tmp_path}/ensemble", dry_run=True, members=2, calibration="validation"
    )
    assert train.train(config, sets, ["w", "w"]) is None
    assert capsys.readouterr().out.splitlines() == [
        "leakage: no near duplicates are in different splits",
        "labels: 1 of 24 videos has no label and is left out (for one train00)",
        "accuracy and risk: this holds for videos of known sources only: the sources of 23 of the 23 training and "
        "validation videos are unknown, and parts of one recording among them make accuracy and risk look too good; "
        "name sources in the column group or with --group-pattern of jobs/index.py",
        f"would train members [0, 1] of 2 into {tmp_path}/ensemble",
    ]


def test_videos_that_are_all_alike_are_said_so_in_words() -> None:
    features = features_of("ABAB", "rrvv")
    alike = replace(features, features=[np.ones((number % 2 + 1, 3), np.float16) for number in range(4)])
    with pytest.raises(ConfigError) as error:
        training_data(alike)
    assert str(error.value) == (
        "--features: videos of a class must differ, all 4 have the same features in every frame as the others of their "
        "class (for one /v/0.mp4); look whether they show one picture, or extract them with other weights"
    )
    by_class = [np.full((2, 3), number % 2, np.float16) for number in range(4)]
    with pytest.raises(ConfigError, match="videos of a class must differ, all 4 have the same features"):
        training_data(replace(features, features=by_class))
    training_data(features)


def test_a_class_that_training_lacks_is_named_with_a_video() -> None:
    with pytest.raises(ConfigError) as error:
        training_data(features_of("AABBC", "rvrvv"))
    assert str(error.value) == (
        "--features: the train split must hold every class, lacks ['C'] (a video of the first is /v/4.mp4); move a "
        "source of each to train, or give fractions to assign new splits, such as --split 0.7,0.2,0.1"
    )
