"""Choices and ranges are checked when a configuration is made; messages name field, rule and value."""

from __future__ import annotations

from typing import Any

import pytest

from vidclf import cli
from vidclf.config import (
    ClassifyConfig,
    DiffConfig,
    EvaluateConfig,
    ExtractConfig,
    IndexConfig,
    ServeConfig,
    TrainConfig,
    fields,
)
from vidclf.config.fields import check_known, differences, parse_fractions, parse_size
from vidclf.errors import ConfigError

INDEX: dict[str, Any] = {"input": "a", "output": "m.parquet"}
EXTRACT: dict[str, Any] = {"manifest": "m.parquet", "output": "o"}
TRAIN: dict[str, Any] = {"features": "f", "output": "o"}
CLASSIFY: dict[str, Any] = {"ensemble": "e", "output": "o"}
EVALUATE: dict[str, Any] = {"predictions": "p", "manifest": "m", "output": "o"}
DIFF: dict[str, Any] = {"before": "a", "after": "b", "output": "o"}
SERVE: dict[str, Any] = {"ensemble": "e"}


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (IndexConfig, INDEX | {"output": "m.csv"}, "--output must be a .parquet file, got 'm.csv'"),
        (ServeConfig, SERVE | {"port": 70000}, "--port must be between 0 and 65535, got 70000"),
        (ServeConfig, SERVE | {"queue": 0}, "--queue must be at least 1 video, got 0"),
        (
            ServeConfig,
            SERVE | {"gpus": -0.5},
            "--gpus must be between 0 and 1 GPU, because a worker computes on one GPU alone, got -0.5",
        ),
        (ServeConfig, SERVE | {"max_upload": "0MB"}, "--max-upload must be at least 1 byte, got '0MB'"),
        (ServeConfig, SERVE | {"max_upload": "5 apples"}, "--max-upload must be a number with one of B, KB, MB, GB"),
        (ServeConfig, SERVE | {"keep_results": 0.0}, "--keep-results must be above 0 seconds, got 0.0"),
        (ServeConfig, SERVE | {"fetch_timeout": 0.0}, "--fetch-timeout must be above 0 seconds, got 0.0"),
        (IndexConfig, INDEX | {"limit": 0}, "--limit must be at least 1 video, got 0"),
        (
            IndexConfig,
            INDEX | {"group_pattern": "x"},
            "--group-pattern must be a pattern with one (group), auto or",
        ),
        (IndexConfig, INDEX | {"group_pattern": "("}, "--group-pattern must be a regular expression, got '('"),
        (ExtractConfig, EXTRACT | {"num_frames": 0}, "--num-frames must be between 1 and 4096 frames, got 0"),
        (ExtractConfig, EXTRACT | {"rows_per_shard": 0}, "--rows-per-shard must be at least 1 video, got 0"),
        (ExtractConfig, EXTRACT | {"decode_workers": 0}, "--decode-workers must be at least 1 worker, got 0"),
        (ExtractConfig, EXTRACT | {"sampling": "all"}, "--sampling must be one of uniform, middle, random, keyframes"),
        (ExtractConfig, EXTRACT | {"sampling": "middle"}, "--clip-duration must be above 0 seconds with --sampling"),
        (ExtractConfig, EXTRACT | {"clip_duration": 5.0}, "--clip-duration must be above 0 seconds with --sampling"),
        (ExtractConfig, EXTRACT | {"skip_edges": 0.5}, "--skip-edges must be in [0, 0.5), got 0.5"),
        (ExtractConfig, EXTRACT | {"decode_timeout": 0.0}, "--decode-timeout must be above 0 seconds, got 0.0"),
        (EvaluateConfig, {"output": "o"}, "--predictions must be given, or --features, but not both, got None"),
        (EvaluateConfig, EVALUATE | {"features": "f"}, "--predictions must be given, or --features, but not both"),
        (EvaluateConfig, EVALUATE | {"manifest": None}, "--manifest must be given with --predictions"),
        (EvaluateConfig, {"features": "f", "output": "o"}, "--ensemble must be given with --features, got None"),
        (EvaluateConfig, EVALUATE | {"split": "train"}, "--split must be left out with --predictions, got 'train'"),
        (EvaluateConfig, EVALUATE | {"split": "dev"}, "--split must be one of train, val, test, all, got 'dev'"),
        (EvaluateConfig, EVALUATE | {"tta": True}, "--tta must be left out with --predictions"),
        (EvaluateConfig, EVALUATE | {"abstain_risk": 0.1}, "--abstain-risk must be left out with --predictions"),
        (DiffConfig, DIFF | {"max_flip_rate": 2.0}, "--max-flip-rate must be in [0, 1], got 2.0"),
        (TrainConfig, TRAIN | {"members": 0}, "--members must be at least 1, got 0"),
        (TrainConfig, TRAIN | {"lr": 0.0}, "--lr must be above 0, got 0.0"),
        (TrainConfig, TRAIN | {"dropout": 1.0}, "--dropout must be in [0, 1), got 1.0"),
        (
            TrainConfig,
            TRAIN | {"hidden_dim": 10, "num_attention_heads": 3},
            "--num-attention-heads must be a divisor of 2 × hidden_dim = 20, got 3",
        ),
        (ClassifyConfig, CLASSIFY, "--input must be given, or --manifest, or --features, and only one of them"),
        (ClassifyConfig, CLASSIFY | {"input": "a", "manifest": "m"}, "--input must be given, or --manifest"),
        (ClassifyConfig, CLASSIFY | {"input": "a", "abstain_risk": 0.0}, "--abstain-risk must be in (0, 1), got 0.0"),
        (ClassifyConfig, CLASSIFY | {"input": "a", "segments": 0.0}, "--segments must be above 0 seconds, got 0.0"),
        (
            ClassifyConfig,
            CLASSIFY | {"features": "f", "sharpen_blurry": True},
            "--sharpen-blurry must be left out with --features, which decodes nothing, got True",
        ),
    ],
)
def test_a_value_out_of_range_is_named(config_class: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_class(**values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("rule", "text", "inside", "outside"),
    [
        (fields.at_least(1, "video"), "at least 1 video", [1, 2], [0, float("nan")]),
        (fields.at_least(0), "at least 0", [0.0], [-0.1]),
        (fields.above(0, "seconds"), "above 0 seconds", [0.1], [0.0, float("nan")]),
        (fields.between(1, 4, "frames"), "between 1 and 4 frames", [1, 4], [0, 5]),
        (fields.within("[0, 0.5)"), "in [0, 0.5)", [0.0, 0.4], [-0.1, 0.5, float("nan")]),
        (fields.within("(0, 1]"), "in (0, 1]", [0.1, 1.0], [0.0, 1.1]),
        (fields.one_of(("asha", "none")), "asha or none", ["asha", "none"], ["", "ash"]),
        (fields.one_of(("a", "b", "c")), "one of a, b, c", ["c"], ["d"]),
    ],
)
def test_a_rule_has_words_and_a_test(rule: fields.Rule, text: str, inside: list[Any], outside: list[Any]) -> None:
    assert rule.text == text
    assert [rule.holds(value) for value in inside] == [True] * len(inside)
    assert [rule.holds(value) for value in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("key", "hint"),
    [("siez", "did you mean 'size'?"), ("colour", "known keys: name, size"), (3, "known keys: name, size")],
)
def test_an_unknown_key_is_named_with_a_similar_one_or_all(key: Any, hint: str) -> None:
    check_known(["name", "size"], ["name", "size"], str)
    with pytest.raises(ConfigError) as error:
        check_known(["name", key], ["name", "size"], lambda unknown: f"space.{unknown}: unknown key")
    assert str(error.value) == f"space.{key}: unknown key; {hint}"


def test_differences_of_nested_values_have_dotted_names() -> None:
    one = {"name": "a", "plan": {"mode": "uniform", "num_frames": 8}, "dims": [1, 2]}
    assert differences(one, {**one, "plan": {"mode": "uniform", "num_frames": 8}}) == ""
    other = {"name": "b", "plan": {"mode": "uniform", "num_frames": 16}, "dims": [1, 2], "seed": 0}
    assert differences(one, other) == "name: a != b; plan.num_frames: 8 != 16; seed: None != 0"


def test_fractions() -> None:
    assert parse_fractions("0.7,0.2,0.1") == (0.7, 0.2, 0.1)
    assert parse_fractions("1,0,0") == (1.0, 0.0, 0.0)
    assert parse_fractions("none") is None


@pytest.mark.parametrize("split", ["0.7,0.2", "0.7,0.2,0.2", "0,0.5,0.5", "a,b,c", "-0.1,0.6,0.5", ""])
def test_fractions_that_are_none(split: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_fractions(split)
    assert str(error.value) == (
        f"--split must be 'none' or three fractions train,val,test that add up to 1, got {split!r}"
    )


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [("500MB", 500_000_000), ("1.5 GiB", 1_610_612_736), ("12B", 12), ("1KB", 1000), ("1KiB", 1024)],
)
def test_sizes_are_decimal_or_binary_as_their_unit_says(size: str, num_bytes: int) -> None:
    assert parse_size("max_upload", size) == num_bytes


@pytest.mark.parametrize("size", ["500", "MB", "-1MB", "1mb", "1 TB", "", "1e3KB"])
def test_what_is_no_size_is_said(size: str) -> None:
    with pytest.raises(ConfigError, match="--max-upload must be a number with one of B, KB, MB, GB, KiB, MiB, GiB"):
        parse_size("max_upload", size)


def test_prediction_sets_are_refused_where_they_would_not_hold() -> None:
    with pytest.raises(ConfigError, match=r"coverage must be in \(0, 1\), got 95"):
        ClassifyConfig(input="i", ensemble="e", output="o", coverage=95.0)
    with pytest.raises(ConfigError, match="coverage must be left out with --progressive, which decides easy videos"):
        ClassifyConfig(input="i", ensemble="e", output="o", coverage=0.95, progressive=True)
    with pytest.raises(ConfigError, match="coverage must be left out with --predictions, which have their prediction"):
        EvaluateConfig(predictions="p", manifest="m", output="o", coverage=0.95)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--ensemble must be given, or --labels, got None"),
        ({"ensemble": "e", "num_frames": 8}, "--num-frames must be given only with --labels, got 8"),
        ({"ensemble": "e", "calibrate_with": "f"}, "--calibrate-with must be given only with --labels, got 'f'"),
        ({"labels": "l"}, "--backbone must be one model with --labels, got None"),
        ({"labels": "l", "backbone": ("a", "b")}, "--backbone must be one model with --labels, got 'a,b'"),
        (
            {"labels": "l", "backbone": ("a",), "ensemble": "e"},
            "--ensemble must be left out with --labels, which needs none, got 'e'",
        ),
        (
            {"labels": "l", "backbone": ("a",), "progressive": True},
            "--progressive must be left out with --labels, got True",
        ),
        (
            {"labels": "l", "backbone": ("a",), "abstain_risk": 0.1},
            "--abstain-risk must be left out with --labels until --calibrate-with FEATURES says how far confidence can "
            "be trusted, got 0.1",
        ),
        (
            {"labels": "l", "backbone": ("a",), "calibrate_with": "f", "num_frames": 8},
            "--num-frames must be left out with --features or --calibrate-with, whose frames decide, got 8",
        ),
    ],
)
def test_labels_from_words_replace_an_ensemble(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ClassifyConfig(input="i", output="o", **values)
    assert str(error.value) == message


def test_labels_from_words_may_abstain_once_they_are_calibrated() -> None:
    config = ClassifyConfig(
        input="i", output="o", labels="l", backbone=("a",), calibrate_with="f", abstain_risk=0.1, coverage=0.9
    )
    assert (config.ensemble, config.abstain_risk) == ("", 0.1)


def test_a_risk_that_is_the_default_is_refused_too_where_it_has_no_effect() -> None:
    uncalibrated = ["--input", "i", "--output", "o", "--labels", "l", "--backbone", "a", "--abstain-risk", "0.05"]
    with pytest.raises(ConfigError) as error:
        cli.parse(ClassifyConfig, uncalibrated)
    assert str(error.value) == (
        "--abstain-risk must be left out with --labels until --calibrate-with FEATURES says how far confidence can be "
        "trusted, got 0.05"
    )
    assert cli.parse(ClassifyConfig, [*uncalibrated, "--calibrate-with", "f"]).abstain_risk == 0.05
    assert cli.parse(ClassifyConfig, uncalibrated[:-2]).abstain_risk == 0.05


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--abstain-risk", "0.05"],
            "--abstain-risk must be left out with --predictions, where it was decided which videos are accepted, "
            "got 0.05",
        ),
        (["--split", "test"], "--split must be left out with --predictions, got 'test'"),
        (["--gpus", "0"], "--gpus must be left out with --predictions, which need no computation, got 0.0"),
    ],
)
def test_an_option_for_features_is_refused_with_predictions_even_if_it_is_the_default(
    flags: list[str], message: str
) -> None:
    output = ["--output", "o"]
    with pytest.raises(ConfigError) as error:
        cli.parse(EvaluateConfig, ["--predictions", "p", "--manifest", "m", *output, *flags])
    assert str(error.value) == message
    assert cli.parse(EvaluateConfig, ["--features", "f", "--ensemble", "e", *output, *flags]).features == ("f",)
