"""An ensemble as ONNX: the probabilities of OpenVINO and ONNX Runtime agree with those of the ensemble itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.support.ensembles import MODEL, even_space, write_small_ensemble
from tests.support.jobs import refuse, succeed
from vidclf.config import ModelConfig
from vidclf.ensemble import calibration_file, files
from vidclf.ensemble.inference import EnsembleOutput
from vidclf.ensemble.info import Calibration, EnsembleCalibration, EnsembleInfo, FittedBackbone, read_info, write_info
from vidclf.ensemble.linear_member import LinearInfo, LinearMember, LinearWeight, write_linear
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.sublabels import SublabelInfo
from vidclf.ensemble.views import ViewWeight
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.schema import Look
from vidclf.uncertainty.sublabel_threshold import SublabelScores

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

from vidclf.export import onnx_model  # noqa: E402  (needs onnx)

LENGTHS = (1, 2, 3, 5, 8, 24, 73, 90)
"""Numbers of frames of the videos of a batch. The longest has no padding."""

DEEP = ModelConfig(
    hidden_dim=6,
    num_lstm_layers=2,
    num_attention_heads=3,
    projection_dim=5,
    pooling_dim=4,
    classifier_dims=(4, 3),
    classifier_norm="layer",
)


def write_ensemble(
    directory: Path,
    model: ModelConfig,
    *,
    num_backbones: int = 1,
    has_linear_member: bool = False,
    has_sublabels: bool = False,
) -> EnsembleInfo:
    """An ensemble of two members with random weights that are large enough to make decided predictions; with
    `has_linear_member` also a linear member of random weights. With `has_sublabels` class A has two sublabels and class
    C three."""
    write_small_ensemble(directory, ["A", "B", "C"], 73, is_tiny=True)
    info = read_info(str(directory))
    spec = info.backbones[0].feature_spec
    specs: list[FeatureSpec] = [spec, replace(spec, backbone="resnet50")][:num_backbones]
    members = []
    for index in range(2):
        own = specs[index % num_backbones]
        torch.manual_seed(index)
        state = build_model(own.feature_dim, 8 if has_sublabels else 3, model).state_dict()
        state = {name: value * (3 if name.startswith("classifier") else 1) for name, value in state.items()}
        if model.model == "words":
            texts_CD = torch.nn.functional.normalize(torch.randn(state["texts"].shape), dim=1)
            state = {"texts": texts_CD, "logit_scale": torch.tensor(20.0)}
        digest = files.write_member(str(directory), index, state)
        members.append(MemberRecord(file=files.member_file(index), backbone=own.backbone, digest=digest))
    trust = calibration_file.read_trust(str(directory), info)
    trust = replace(
        trust,
        spaces={Look.FULL: [even_space(3, each.feature_dim) for each in specs]},
        discriminants=[
            replace(trust.discriminants[0], towards_DC=np.eye(each.feature_dim, 3, dtype=np.float32)) for each in specs
        ],
    )
    plain = Calibration(temperature=0.6, ece_before=0.2, ece_after=0.1)
    weights = {"original": 0.4, "reverse": 0.25, "faster": 0.05, "slower": 0.3}
    info = replace(
        info,
        backbones=[FittedBackbone.of(each, "random") for each in specs],
        model=model,
        members=members,
        views=[ViewWeight(name=name, weight=weight, gain=0.1, gain_se=0.01) for name, weight in weights.items()],
        calibration=EnsembleCalibration.of(20, plain, replace(plain, temperature=1.7)),
        trust=replace(
            info.trust,
            digest=calibration_file.write_trust(str(directory), trust),
            ood=replace(info.trust.ood, distances=[1e6] * len(specs)),
        ),
    )
    if has_linear_member:
        num_weights = 2 * sum(each.feature_dim for each in specs)
        weights_KC = np.random.default_rng(1).normal(size=(num_weights, 3)).astype(np.float32) / 20
        member = LinearMember(weights_KC=weights_KC, offset_C=np.array([0.1, 0, -0.1], np.float32))
        weight = LinearWeight(weight=0.7, gain=0.1, gain_se=0.01)
        linear = LinearInfo(
            digest=write_linear(str(directory), member),
            looks={Look.FULL: weight},
            segments=[],
            best={"val_accuracy": 0.5},
            members_val_accuracy=0.5,
        )
        info = replace(info, linear=linear)
    if has_sublabels:
        sublabels = SublabelInfo(temperatures={"plain": 0.5, "tta": 1.0}, num_videos=4, val_accuracy=0.5)
        info = replace(info, taxonomy={"A": ["a1", "a2"], "C": ["c1", "c2", "c3"]}, sublabels=sublabels)
        scores = SublabelScores(trust_B=np.zeros(20, np.float32), right_B=np.zeros(20, np.int64))
        trust = replace(trust, sublabels={"plain": scores, "tta": scores})
        digest = calibration_file.write_trust(str(directory), trust)
        info = replace(info, trust=replace(info.trust, digest=digest))
    write_info(str(directory), info)
    return info


Run = Callable[[dict[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]
"""Function that computes the outputs of a model from its inputs, both by name."""


def openvino_of(path: Path) -> Run:
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        results = compiled(inputs)
        return {output.any_name: results[output] for output in compiled.outputs}

    return run


def onnxruntime_of(path: Path) -> Run:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


@dataclass(frozen=True)
class Exported:
    """An ensemble as ONNX, videos of all `LENGTHS`, and what the ensemble itself predicts for them."""

    info: EnsembleInfo
    file: Path
    sequences_S: list[list[npt.NDArray[np.float16]]]
    """one list per backbone"""
    expected: EnsembleOutput


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((*ensemble, tta), id=f"{name}-{tta}")
        for name, ensemble in {
            "small": (MODEL, 1, False, False),
            "deep, two backbones, linear member": (DEEP, 2, True, False),
            "few frames": (replace(DEEP, num_frames=8), 1, False, False),
            "linear member, sublabels": (MODEL, 1, True, True),
            "probe, two backbones, sublabels": (replace(DEEP, model="attentive"), 2, True, True),
            "probe as wide as features": (
                ModelConfig(model="attentive", hidden_dim=640, num_attention_heads=4, num_frames=8),
                1,
                False,
                False,
            ),
            "words": (ModelConfig(model="words", num_frames=8), 1, False, False),
        }.items()
        for tta in (False, True)
    ],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each ensemble, exported once for both engines."""
    model, num_backbones, has_linear_member, has_sublabels, tta = request.param
    directory = tmp_path_factory.mktemp("exported")
    info = write_ensemble(
        directory / "e",
        model,
        num_backbones=num_backbones,
        has_linear_member=has_linear_member,
        has_sublabels=has_sublabels,
    )
    onnx_model.export_ensemble(str(directory / "e"), str(directory / "e.onnx"), tta=tta, dry_run=False)
    generator = np.random.default_rng(0)
    sequences_S = [
        [generator.normal(size=(length, backbone.feature_dim)).astype(np.float16) for length in LENGTHS]
        for backbone in info.backbones
    ]
    expected = files.load(str(directory / "e"), torch.device("cpu"))(sequences_S, tta=tta)
    return Exported(info, directory / "e.onnx", sequences_S, expected)


@pytest.mark.parametrize("loaded", [openvino_of, onnxruntime_of])
def test_probabilities_are_those_of_the_ensemble(exported: Exported, loaded: Callable[[Path], Run]) -> None:
    expected = exported.expected
    run = loaded(exported.file)
    # One batch of all videos with padding, which must not matter, and each video alone.
    for chosen in (range(len(LENGTHS)), *([index] for index in range(len(LENGTHS)))):
        lengths = [LENGTHS[index] for index in chosen]
        inputs: dict[str, npt.NDArray[Any]] = {"num_frames": np.array(lengths)}
        names = onnx_model.input_names(exported.info).values()
        for name, sequences in zip(names, exported.sequences_S, strict=True):
            padded = np.full((len(lengths), max(lengths), sequences[0].shape[1]), 99, np.float32)
            for row, index in enumerate(chosen):
                padded[row, : LENGTHS[index]] = sequences[index]
            inputs[name] = padded
        results = run(inputs)
        picked = list(chosen)
        assert np.abs(results["probabilities"] - expected.probabilities_BC[picked]).max() < 1e-4
        of_members = expected.member_probabilities_MBC[:, picked]
        assert np.abs(results["member_probabilities"] - of_members).max() < 1e-4
        assert ("sublabel_probabilities" in results) == bool(exported.info.taxonomy)
        if expected.conditional_BL is not None:
            assert np.abs(results["sublabel_probabilities"] - expected.conditional_BL[picked]).max() < 1e-4
    if expected.conditional_BL is not None:
        assert np.ptp(expected.conditional_BL, axis=0).max() > 0.01
    # The videos differ, so that a graph that returned a constant would not pass.
    assert np.ptp(expected.probabilities_BC, axis=0).max() > 0.01


def test_the_file_names_its_ensemble_and_a_second_export_changes_nothing(tmp_path: Path) -> None:
    info = write_ensemble(tmp_path / "e", MODEL)
    command = ("export", "--ensemble", tmp_path / "e", "--to", "onnx", "--output", tmp_path / "e.onnx")
    assert succeed(*command, "--dry-run").endswith(" bytes: would be written\n")
    assert not (tmp_path / "e.onnx").exists()
    line = succeed(*command)
    assert line.startswith(f"{tmp_path}/e.onnx: ensemble {info.ensemble_id} with 2 members, ")
    assert line.endswith(" bytes: written\n")
    model = onnx.load(str(tmp_path / "e.onnx"))
    onnx.checker.check_model(model, full_check=True)
    values = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(values.pop("sampling"))["num_frames"] == 73
    assert values == {
        "ensemble_id": info.ensemble_id,
        "classes": '["A", "B", "C"]',
        "feature_keys": json.dumps({"efficientnet_lite0": info.backbones[0].feature_spec.key}),
        "temperature": "0.6",
        "views": '{"original": 1.0}',
    }
    assert (model.producer_name, model.ir_version, model.opset_import[0].version) == ("vidclf", 8, 17)
    before = (tmp_path / "e.onnx").stat().st_mtime_ns
    assert succeed(*command).endswith(": unchanged, it is there already\n")
    assert (tmp_path / "e.onnx").stat().st_mtime_ns == before
    assert succeed(*command, "--tta").endswith(": written\n")
    (tmp_path / "e.onnx").write_text("other")
    assert "exists and is not an ONNX file of jobs/export.py; choose another name" in refuse(*command)


def test_a_damaged_or_too_large_ensemble_is_refused(tmp_path: Path) -> None:
    write_ensemble(tmp_path / "e", MODEL)
    with (tmp_path / "e" / "member_1.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    error = refuse("export", "--ensemble", tmp_path / "e", "--to", "onnx", "--output", tmp_path / "e.onnx")
    assert "member_1.safetensors: is not the file that ensemble.json lists (digest differs)" in error
    assert not (tmp_path / "e.onnx").exists()
    with pytest.raises(
        ConfigError, match=r"at most 2,147,483,647 bytes, the ensemble needs 2,147,483,648; train fewer"
    ):
        onnx_model.check_size(2**31, "e.onnx")
