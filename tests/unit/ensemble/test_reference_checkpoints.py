"""Checkpoints of the reference system: the same logits as the formula, or an error that names the key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import Tensor

from tests.support import formula
from tests.support.ensembles import MEASURED, NEUTRAL_TRUST, ood_line, with_digest
from vidclf import storage
from vidclf.config import ModelConfig, TrainConfig
from vidclf.ensemble import reference_checkpoints
from vidclf.ensemble.files import load
from vidclf.ensemble.info import LookInfo, read_info, write_info
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.ensemble.split_record import read_record
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.training.train import train

FEATURE_DIM, HIDDEN, HEADS, CLASSES = 1280, 6, 3, 3
CONFIG = {
    "feature_dim": FEATURE_DIM,
    "hidden_dim": HIDDEN,
    "num_classes": CLASSES,
    "num_lstm_layers": 2,
    "num_attention_heads": HEADS,
    "dropout": 0.4,
    "bidirectional": True,
}
PLAIN = [("linear", 0), ("relu", 1), ("linear", 3), ("relu", 4), ("linear", 6)]
LAYER = [("linear", 0), ("layer_norm", 1), ("relu", 2), ("linear", 4), ("layer_norm", 5), ("relu", 6), ("linear", 8)]
BATCH = [("linear", 0), ("batch_norm", 1), ("relu", 2), ("linear", 4), ("batch_norm", 5), ("relu", 6), ("linear", 8)]
TIGHT = [("linear", 0), ("relu", 1), ("linear", 2), ("relu", 3), ("linear", 4)]
"""Without dropout in between, so the layers have other numbers than in `TemporalClassifier`."""


def checkpoint(seed: int = 0, classifier: list[tuple[str, int]] = PLAIN) -> dict[str, Any]:
    """A checkpoint as specified: names and shapes are written out here, not taken from `TemporalClassifier`."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int, around: float = 0.0) -> None:
        state[name] = around + 0.3 * torch.randn(*shape, generator=generator)

    def put_linear(name: str, width_in: int, width_out: int) -> None:
        put(f"{name}.weight", width_out, width_in)
        put(f"{name}.bias", width_out)

    def put_norm(name: str, width: int) -> None:
        put(f"{name}.weight", width, around=1.0)
        put(f"{name}.bias", width)

    wide = 2 * HIDDEN
    put_linear("input_projection.0", FEATURE_DIM, HIDDEN)
    put_norm("input_projection.1", HIDDEN)
    for layer, width_in in enumerate((HIDDEN, wide)):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            put(f"lstm.weight_ih_{suffix}", 4 * HIDDEN, width_in)
            put(f"lstm.weight_hh_{suffix}", 4 * HIDDEN, HIDDEN)
            put(f"lstm.bias_ih_{suffix}", 4 * HIDDEN)
            put(f"lstm.bias_hh_{suffix}", 4 * HIDDEN)
    put("attention.in_proj_weight", 3 * wide, wide)
    put("attention.in_proj_bias", 3 * wide)
    put_linear("attention.out_proj", wide, wide)
    put_norm("attention_norm", wide)
    put_linear("attention_pooling.0", wide, HIDDEN)
    put_norm("attention_pooling.1", HIDDEN)
    put_linear("attention_pooling.4", HIDDEN, 1)
    widths = [wide, 8, 5, CLASSES]
    for kind, number in classifier:
        name = f"classifier.{number}"
        if kind == "linear":
            put_linear(name, widths[0], widths[1])
            widths = widths[1:]
        elif kind != "relu":
            put_norm(name, widths[0])
        if kind == "batch_norm":
            put(f"{name}.running_mean", widths[0])
            state[f"{name}.running_var"] = 0.5 + torch.rand(widths[0], generator=generator)
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return {"model_state_dict": state, "model_config": dict(CONFIG), "val_acc": 0.93}


def write(directory: Path, *checkpoints: Any) -> str:
    directory.mkdir(exist_ok=True)
    for number, content in enumerate(checkpoints):
        torch.save(content, directory / f"best_ensemble_model_{number}.pt")
    return str(directory)


def expected_logits(content: dict[str, Any], classifier: list[tuple[str, int]], features_TD: Any) -> Any:
    state = {name: tensor.double().numpy() for name, tensor in content["model_state_dict"].items()}
    return formula.logits_and_attention(state, features_TD.astype(np.float64), HEADS, classifier)[0]


@pytest.mark.parametrize(("classifier", "norm"), [(PLAIN, "none"), (TIGHT, "none"), (LAYER, "layer"), (BATCH, "none")])
def test_logits_are_those_of_the_formula(tmp_path: Path, classifier: list[tuple[str, int]], norm: str) -> None:
    content = checkpoint(classifier=classifier)
    imported = reference_checkpoints.read(write(tmp_path, content))
    assert imported.model == ModelConfig(
        hidden_dim=6,
        num_lstm_layers=2,
        num_attention_heads=3,
        classifier_dims=(8, 5),
        dropout=0.4,
        classifier_norm=norm,
    )
    model = TemporalClassifier(FEATURE_DIM, CLASSES, imported.model).eval()
    model.load_state_dict(imported.checkpoints[0].state)
    features_BTD = torch.randn(2, 9, FEATURE_DIM, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits_BC = model(features_BTD, torch.tensor([9, 9])).logits_BC
    for row in range(2):
        expected_C = expected_logits(content, classifier, features_BTD[row].numpy())
        np.testing.assert_allclose(logits_BC[row], expected_C, atol=1e-5)


def test_members_are_in_order_of_their_number(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        torch.save(checkpoint(number), tmp_path / f"best_ensemble_model_{number}.pt")
    (tmp_path / "notes.txt").write_text("other files are left alone")
    files = [member.file for member in reference_checkpoints.read(str(tmp_path)).checkpoints]
    assert files == ["best_ensemble_model_0.pt", "best_ensemble_model_2.pt", "best_ensemble_model_10.pt"]


def with_config(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model_config"].update(changes)


def with_state(**changes: Tensor | None) -> Callable[[dict[str, Any]], None]:
    """Tensors to add, or to remove (None). `__` in a name stands for a dot."""

    def change(content: dict[str, Any]) -> None:
        for name, tensor in changes.items():
            if tensor is None:
                del content["model_state_dict"][name.replace("__", ".")]
            else:
                content["model_state_dict"][name.replace("__", ".")] = tensor

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content.pop("model_config"),
            "must hold model_state_dict and model_config, holds ['model_state",
        ),
        (lambda content: content["model_config"].pop("dropout"), "has unknown keys [], and misses ['dropout']"),
        (with_config(use_gru=True), "model_config has unknown keys ['use_gru'], and misses []"),
        (with_config(bidirectional=False), "model_config's bidirectional must be True, is False"),
        (with_config(hidden_dim="6"), "model_config's hidden_dim must be a whole number of at least 1, is '6'"),
        (with_config(num_classes=0), "model_config's num_classes must be a whole number of at least 1, is 0"),
        (with_config(num_attention_heads=5), "--num-attention-heads must be a divisor of 2 × hidden_dim = 12, got 5"),
        (with_config(dropout=1.5), "--dropout must be in [0, 1), got 1.5"),
        (with_config(hidden_dim=9), "input_projection.0.weight must be [9, 1280] by model_config, is [6, 1280]"),
        (with_config(feature_dim=2048), "input_projection.0.weight must be [6, 2048] by model_config, is [6, 1280]"),
        (with_config(num_classes=4), "classifier.6.weight must be [4, 5] by model_config, is [3, 5]"),
        (with_config(num_lstm_layers=1), "has unknown keys ['lstm.bias_hh_l1', 'lstm.bias_hh_l1_reverse'"),
        (with_config(num_lstm_layers=3), "has unknown keys [], and misses ['lstm.bias_hh_l2'"),
        (with_state(head__weight=torch.ones(2)), "has unknown keys ['head.weight'], and misses []"),
        (with_state(attention_norm__bias=None), "has unknown keys [], and misses ['attention_norm.bias']"),
        (with_state(classifier__3__bias=None), "classifier.3 must be a whole Linear, LayerNorm or BatchNorm1d, holds "),
        (with_state(classifier__3__extra=torch.ones(2)), "holds classifier.3.bias, classifier.3.extra, classifier.3.w"),
        (with_state(attention_norm__bias=torch.full((12,), torch.nan)), "attention_norm.bias must hold finite numbers"),
        (
            with_state(input_projection__1__weight=None, input_projection__1__bias=None),
            "input_projection must be Linear, LayerNorm, is Linear (input_projection.0)",
        ),
        (
            with_state(classifier__1__weight=torch.ones(8), classifier__1__bias=torch.ones(8)),
            "classifier must have a LayerNorm behind every hidden Linear or behind none",
        ),
        (
            with_state(classifier__2__weight=torch.ones(8), classifier__2__bias=torch.ones(8)),
            "classifier.2 must follow a Linear at once",
        ),
        (
            with_state(classifier__4__weight=torch.ones(3, 5), classifier__4__bias=torch.ones(3)),
            "classifier.3 and classifier.4 must have an activation between them",
        ),
        (
            with_state(classifier__7__weight=torch.ones(3), classifier__7__bias=torch.ones(3)),
            "classifier.7 (LayerNorm) must be followed by an activation and a Linear",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = checkpoint()
    change(content)
    directory = write(tmp_path, content)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        reference_checkpoints.read(directory)
    assert str(error.value).startswith(f"{directory}/best_ensemble_model_0.pt: ")


def test_a_batch_norm_of_another_width_is_named(tmp_path: Path) -> None:
    content = checkpoint(classifier=BATCH)
    content["model_state_dict"]["classifier.1.running_var"] = torch.ones(4)
    with pytest.raises(ConfigError, match=r"classifier\.1\.running_var must be \[8\], as long as classifier\.0\.bias"):
        reference_checkpoints.read(write(tmp_path, content))


class Code:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best_ensemble_model_0.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"best_ensemble_model_0\.pt: cannot be read as weights alone"):
        reference_checkpoints.read(str(tmp_path))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read as weights alone, and nothing else is loaded"):
        reference_checkpoints.read(write(tmp_path, {**checkpoint(), "extra": Code()}))
    assert not Path("ran").exists()


def test_a_directory_without_checkpoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"must hold best_ensemble_model_<i>\.pt, holds model\.pt"):
        reference_checkpoints.read(str(tmp_path))


def test_checkpoints_of_other_sizes_than_the_first_are_refused(tmp_path: Path) -> None:
    other = checkpoint()
    other["model_config"]["num_attention_heads"] = 2
    with pytest.raises(ConfigError) as error:
        reference_checkpoints.read(write(tmp_path, checkpoint(), checkpoint(), other))
    assert (
        "all checkpoints must have the same sizes, best_ensemble_model_2.pt and best_ensemble_model_0.pt have model"
        in (str(error.value))
    )


def feature_file(path: Path, mapping: Any) -> str:
    with h5py.File(path, "w") as file:
        file.attrs["category_mapping"] = json.dumps(mapping)
    return str(path)


def test_classes_are_given_or_those_of_a_feature_file(tmp_path: Path) -> None:
    labels = {"A", "B", "C"}
    assert reference_checkpoints.class_names(("C", "A", "B"), 3, labels) == ["C", "A", "B"]
    path = feature_file(tmp_path / "train_features_multiscale.h5", {"A": 2, "B": 0, "C": 1})
    assert reference_checkpoints.class_names((path,), 3, labels) == ["B", "C", "A"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "must be the 3 class names in the order of the checkpoints' outputs, or a feature file that maps them; "),
        (("A", "B"), "got A, B; the features hold A, B, C"),
        (("A", "B", "D"), "got A, B, D; the features hold A, B, C"),
        (("A", "B", "B"), "got A, B, B; the features hold A, B, C"),
    ],
)
def test_classes_are_not_guessed(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        reference_checkpoints.class_names(given, 3, {"A", "B", "C"})


@pytest.mark.parametrize("mapping", [{}, {"A": 1, "B": 2}, ["A"]])
def test_a_feature_file_without_classes_is_refused(tmp_path: Path, mapping: Any) -> None:
    with pytest.raises(ConfigError, match=r"must number its classes from 0 in category_mapping"):
        reference_checkpoints.class_names((feature_file(tmp_path / "a.h5", mapping),), 3, {"A"})


def feature_set(feature_dim: int = FEATURE_DIM) -> FeatureSet:
    """Eighteen videos of three classes, six in val."""
    generator = np.random.default_rng(0)
    names = [f"/v/{number:02}.mp4" for number in range(18)]
    return FeatureSet(
        spec=FeatureSpec(
            backbone="efficientnet_lite0" if feature_dim == 1280 else "resnet50",
            weights_digest="0",
            sampling={},
            transform={},
            decoder="d",
            dtype="float16",
        ),
        video_ids=names,
        video_uris=names,
        labels=["ABC"[number % 3] for number in range(18)],
        sublabels=[None] * 18,
        groups=names,
        splits=["train"] * 12 + ["val"] * 6,
        content_digests=names,
        features=[generator.normal(size=(5, feature_dim)).astype(np.float16) for _ in range(18)],
    )


def config(directory: str, output: Path, **values: Any) -> TrainConfig:
    return TrainConfig(
        features=("f",), output=str(output), import_reference=directory, reference_classes=("C", "A", "B"), **values
    )


def test_an_imported_ensemble_classifies_as_its_checkpoints_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [checkpoint(0), checkpoint(1, TIGHT)]
    directory, output, features = write(tmp_path / "reference", *contents), tmp_path / "ensemble", feature_set()
    assert train(config(directory, output, dry_run=True), [features], ["DEFAULT"]) is None
    assert "would import members [0, 1] of 2" in capsys.readouterr().out
    summary = train(config(directory, output), [features], ["DEFAULT"])
    assert summary is not None
    assert summary["num_trained"] == 2
    loaded = load(str(output), torch.device("cpu"))
    assert loaded.info.classes == ["C", "A", "B"]
    assert loaded.info.training["recipe"] == "imported"
    assert [member.imported_from for member in loaded.info.members] == [
        "best_ensemble_model_0.pt",
        "best_ensemble_model_1.pt",
    ]
    video_TD = features.features[0]
    logits = [
        expected_logits(content, classifier, video_TD)
        for content, classifier in zip(contents, (PLAIN, TIGHT), strict=True)
    ]
    probabilities = [formula.softmax(member / loaded.fitted(False).temperature) for member in logits]
    np.testing.assert_allclose(loaded([[video_TD]]).member_probabilities_MBC[:, 0], probabilities, atol=1e-5)
    # The scores are those of the validation videos, with labels in the order of the checkpoints' outputs.
    right = [
        np.argmax(expected_logits(contents[0], PLAIN, rows)) == "CAB".index(str(label))
        for rows, label in zip(features.features[12:], features.labels[12:], strict=True)
    ]
    best = loaded.info.members[0].best
    assert best is not None
    assert best["val_accuracy"] == pytest.approx(np.mean(right))
    # Submitted again there is nothing to do; other checkpoints are another ensemble.
    again = train(config(directory, output), [features], ["DEFAULT"])
    assert again is not None
    assert (again["num_trained"], again["was_calibrated"]) == (0, False)
    assert again["ensemble_id"] == summary["ensemble_id"]
    write(tmp_path / "reference", checkpoint(2))
    with pytest.raises(ConfigError, match="member 0 was trained on other features or with other settings"):
        train(config(directory, output), [features], ["DEFAULT"])


def test_an_ensemble_that_an_earlier_version_calibrated_is_calibrated_again(tmp_path: Path) -> None:
    directory, output, features = write(tmp_path / "reference", checkpoint(0)), tmp_path / "ensemble", feature_set()
    summary = train(config(directory, output), [features], ["DEFAULT"])
    assert summary is not None
    info = read_info(str(output))
    arrays = safetensors.numpy.load_file(output / "trust.safetensors")
    safetensors.numpy.save_file(
        {name: array for name, array in arrays.items() if not name.startswith("full.")}, output / "trust.safetensors"
    )
    digest = hashlib.sha256((output / "trust.safetensors").read_bytes()).hexdigest()
    write_info(str(output), with_digest(info, digest))
    with pytest.raises(OutdatedEnsembleError, match="was calibrated by an earlier version"):
        load(str(output), torch.device("cpu"))
    # An ensemble with a first look needs that look again for its calibration.
    look = LookInfo(
        num_frames=3,
        feature_specs=[features.spec],
        calibration=MEASURED,
        ood=ood_line(),
        trust=NEUTRAL_TRUST,
        val_accuracy=0.5,
    )
    write_info(str(output), replace(read_info(str(output)), stages={"keyframes": look}))
    with pytest.raises(ConfigError, match="--first-look must be given again"):
        train(config(directory, output), [features], ["DEFAULT"])
    write_info(str(output), replace(read_info(str(output)), stages={}))
    again = train(config(directory, output), [features], ["DEFAULT"])
    assert again is not None
    assert (again["num_trained"], again["was_calibrated"]) == (0, True)
    assert again["ensemble_id"] == summary["ensemble_id"]


def test_an_ensemble_without_temperatures_of_segments_is_calibrated_again(tmp_path: Path) -> None:
    directory, output, features = write(tmp_path / "reference", checkpoint(0)), tmp_path / "ensemble", feature_set()
    summary = train(config(directory, output), [features], ["DEFAULT"])
    assert summary is not None
    path = str(output / "ensemble.json")
    values = storage.read_json(path)
    # The version before had no segments, and another digest as its id.
    del values["segments"]
    storage.publish_json(path, {**values, "ensemble_id": "0123456789abcdef"})
    with pytest.raises(OutdatedEnsembleError, match="was calibrated by an earlier version without temperatures of"):
        load(str(output), torch.device("cpu"))
    again = train(config(directory, output), [features], ["DEFAULT"])
    assert again is not None
    assert (again["num_trained"], again["was_calibrated"]) == (0, True)
    assert again["ensemble_id"] == summary["ensemble_id"] == read_info(str(output)).ensemble_id
    # The focal loss with gamma 2 and smoothing 0.1, for three classes.
    assert read_info(str(output)).training["prior_temperature"] == pytest.approx(0.4845, abs=1e-4)


def test_a_record_of_splits_that_was_changed_or_is_missing_is_written_again(tmp_path: Path) -> None:
    directory, output, features = write(tmp_path / "reference", checkpoint(0)), tmp_path / "ensemble", feature_set()
    summary = train(config(directory, output), [features], ["DEFAULT"])
    assert summary is not None
    listed, file = read_info(str(output)).splits, output / "splits.parquet"
    assert listed is not None
    assert listed.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert listed.near_duplicate_cosine == 0.95
    assert read_record(str(output)).rows["split"].to_pylist() == ["train"] * 12 + ["val"] * 6
    file.write_bytes(b"edited")
    for _ in range(2):
        again = train(config(directory, output), [features], ["DEFAULT"])
        assert again is not None
        assert (again["num_trained"], again["was_calibrated"]) == (0, True)
        assert again["ensemble_id"] == summary["ensemble_id"]
        assert read_info(str(output)).splits == listed
        # The description of an earlier version does not list the record.
        write_info(str(output), replace(read_info(str(output)), splits=None))


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "reference", checkpoint())
    with pytest.raises(
        ConfigError, match=r"was trained on 1280 features per frame, f holds 2048 \(resnet50\); extract with"
    ):
        train(config(directory, tmp_path / "ensemble"), [feature_set(2048)], ["DEFAULT"])
    assert not storage.exists(str(tmp_path / "ensemble"))
