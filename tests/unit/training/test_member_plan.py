"""The features and the recipe of each member."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.features import LITE0, RESNET, pair
from vidclf import storage
from vidclf.config import FitConfig, TrainConfig
from vidclf.errors import ConfigError
from vidclf.json_text import json_text
from vidclf.training.dataset import training_data
from vidclf.training.member_plan import data_digest, plan_members
from vidclf.training.train import train


def config(features: tuple[str, ...] = ("one", "two"), output: str = "o", **values: Any) -> TrainConfig:
    return TrainConfig(features=features, output=output, **values)


def test_members_take_the_backbones_in_turn_or_as_named() -> None:
    sets = pair()
    data = [training_data(features) for features in sets]
    dealt = plan_members(config(members=3), sets, data, None)
    assert [(member.space, member.backbone) for member in dealt] == [
        (0, "efficientnet_lite0"),
        (1, "resnet50"),
        (0, "efficientnet_lite0"),
    ]
    named = plan_members(config(members=2, member_backbones=("resnet50", "efficientnet_lite0")), sets, data, None)
    assert [member.space for member in named] == [1, 0]
    # A member's recipe does not depend on the features of other members.
    alone = plan_members(config(features=("two",), members=1), sets[1:], data[1:], None)
    assert alone[0].recipe == dealt[1].recipe != dealt[0].recipe == dealt[2].recipe


def test_the_kind_of_model_is_part_of_the_recipe_except_for_the_only_kind_of_earlier_versions() -> None:
    sets = pair()[:1]
    data = [training_data(sets[0])]
    kinds: tuple[Literal["bilstm", "attentive"], ...] = ("bilstm", "attentive")
    bilstm, attentive = (
        plan_members(config(features=("one",), model=kind), sets, data, None)[0].recipe for kind in kinds
    )
    settings = {field.name: getattr(FitConfig(), field.name) for field in fields(FitConfig) if field.name != "model"}
    settings.update(classes=["A", "B"], data=data_digest(sets))
    assert bilstm == hashlib.sha256(json_text(settings, sort_keys=True).encode()).hexdigest()
    assert attentive != bilstm


@pytest.mark.parametrize("given", [("resnet50", "resnet50"), ("resnet50", "vgg")])
def test_every_backbone_has_a_member(given: tuple[str, ...]) -> None:
    sets = pair()
    data = [training_data(features) for features in sets]
    with pytest.raises(
        ConfigError, match=r"--member-backbones must name those of --features \(efficientnet_lite0, res"
    ):
        plan_members(config(members=2, member_backbones=given), sets, data, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"members": 1}, "--members must be at least 2, one for each of --features, got 1"),
        ({"features": ()}, "--features must be at least one directory"),
        ({"features": ("f", "f")}, "--features must be each named once, got 'f,f'"),
        (
            {"member_backbones": ("resnet50",)},
            "--member-backbones must be one for each of the 4 members, got 'resnet50'",
        ),
        ({"import_reference": "d"}, "--features must be one directory with --import-reference"),
        (
            {"features": ("f",), "import_reference": "d", "reference_classes": ("A",), "model": "attentive"},
            "--model must be bilstm with --import-reference, whose members are BiLSTMs, got 'attentive'",
        ),
        ({"model": "mlp"}, "--model must be bilstm or attentive, got 'mlp'"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_features_of_other_videos_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    wanted = config(output=output, dry_run=True, members=3)
    assert train(wanted, pair(), ["DEFAULT", "random"]) is None
    assert f"would train members [0, 1, 2] of 3 into {output}" in capsys.readouterr().out
    first, second = pair()
    with pytest.raises(ConfigError, match="--features two: split must equal that of one, differs for 12 videos"):
        train(wanted, [first, replace(second, splits=["train"] * 24)], ["DEFAULT", "random"])
    with pytest.raises(ConfigError, match=r"--features two: must be of the same frames as one, .*'decoder': 'x'"):
        train(wanted, [first, replace(second, spec=replace(RESNET, decoder="x"))], ["DEFAULT", "random"])
    with pytest.raises(ConfigError, match="--features one,two: must be of different backbones"):
        train(wanted, [first, replace(first, spec=LITE0)], ["DEFAULT", "random"])
    assert not storage.exists(output)
