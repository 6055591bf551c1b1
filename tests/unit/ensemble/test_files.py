"""Ensemble directories: loading a complete one, refusing a damaged one."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import resource
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.support.ensembles import (
    EVEN_VIEWS,
    MEASURED,
    NEUTRAL_TRUST,
    even_discriminant,
    even_space,
    ood_line,
    with_digest,
)
from vidclf.config import ModelConfig
from vidclf.ensemble import calibration_file, files, inference, views
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.checked import read_checked
from vidclf.ensemble.info import (
    EnsembleCalibration,
    EnsembleInfo,
    FittedBackbone,
    TrustInfo,
    read_info,
    write_info,
)
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.segment_temperature import SegmentCalibration
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.ood import FeatureSpace

MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
SPEC = FeatureSpec(
    backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
)
LITE0 = FittedBackbone.of(SPEC, "DEFAULT")
RESNET = FittedBackbone.of(replace(SPEC, backbone="resnet50"), "random")
CPU = torch.device("cpu")


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """Two members with random weights."""
    members = []
    for index in range(2):
        torch.manual_seed(index)
        state = TemporalClassifier(1280, 3, MODEL).state_dict()
        digest = files.write_member(str(tmp_path), index, state)
        members.append(MemberRecord(file=files.member_file(index), backbone=SPEC.backbone, digest=digest))
    info = EnsembleInfo(
        classes=["A", "B", "C"],
        backbones=[LITE0],
        model=MODEL,
        members=members,
        training={},
        versions={},
        views=EVEN_VIEWS,
        calibration=calibrated(2.0),
        trust=TrustInfo(digest="", ood=ood_line(2.0), plain=NEUTRAL_TRUST, tta=NEUTRAL_TRUST),
    )
    none = ValidationScores(
        trust_B=np.array([], np.float32),
        correct_B=np.array([], bool),
        ood_B=np.array([], np.float32),
        source_B=np.array([], np.int64),
    )
    data = TrustData(
        spaces={Look.FULL: [space_at_origin(1280, 1.0)]},
        discriminants=[even_discriminant(3, 1280)],
        full=dict.fromkeys(("plain", "tta"), none),
    )
    digest = calibration_file.write_trust(str(tmp_path), data)
    write_info(str(tmp_path), with_digest(info, digest))
    return str(tmp_path)


def calibrated(temperature: float, tta: float = 1.0) -> EnsembleCalibration:
    """The calibration with these temperatures."""
    return EnsembleCalibration.of(20, replace(MEASURED, temperature=temperature), replace(MEASURED, temperature=tta))


def segments_of(num_frames: int, temperature: float) -> SegmentCalibration:
    """The calibration of segments with this number of frames."""
    return SegmentCalibration(
        num_frames=num_frames, num_segments=9, temperature=temperature, ece_before=0.2, ece_after=0.1
    )


def load_refused(directory: str) -> None:
    """Load an ensemble, which must be refused. The check before a job must refuse it in the same words."""
    with pytest.raises(ConfigError) as loaded:
        files.load(directory, CPU)
    with pytest.raises(ConfigError) as before_a_job:
        read_checked(directory)
    assert str(before_a_job.value) == str(loaded.value)
    raise loaded.value


def record(file: str, backbone: str = SPEC.backbone) -> MemberRecord:
    return MemberRecord(file=file, digest="d", backbone=backbone)


def space_at_origin(dim: int, inverse_variance: float) -> FeatureSpace:
    """A space in which every video has distance 1 to all three classes."""
    space = even_space(3, dim, inverse_variance)
    return replace(space, centres_CD=np.zeros_like(space.centres_CD))


def test_what_is_written_is_read(directory: str) -> None:
    info = read_info(directory)
    assert (info.classes, info.model) == (["A", "B", "C"], MODEL)
    assert info.calibration == calibrated(2.0)
    assert info.backbones == [LITE0]


def test_probabilities_are_the_mean_over_members_tempered(directory: str) -> None:
    loaded = files.load(directory, CPU)
    sequences = [np.ones((3, 1280), np.float16), np.zeros((2, 1280), np.float16)]
    output = loaded([sequences])
    expected = []
    for index in range(2):
        member = files.load_member(directory, loaded.info, index).eval()
        with torch.inference_mode():
            logits = member(torch.ones(1, 3, 1280), torch.tensor([3])).logits_BC[0]
        expected.append(logits.softmax(0).numpy())
    # A temperature of 2 takes the square roots and normalises them.
    roots = np.sqrt([*expected, np.mean(expected, axis=0)])
    roots /= roots.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(output.member_probabilities_MBC[:, 0], roots[:2], atol=1e-5)
    np.testing.assert_allclose(output.probabilities_BC[0], roots[2], atol=1e-5)
    assert [len(row) for row in output.attention] == [3, 2]
    assert [float(row.sum()) for row in output.attention] == pytest.approx([1, 1])


def test_a_batch_of_members_and_views_equals_the_loop(directory: str) -> None:
    loaded = files.load(directory, CPU)
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(length, 1280)).astype(np.float16) for length in (5, 3, 5, 1)]
    members = [files.load_member(directory, loaded.info, index).eval() for index in range(2)]
    logits_VMBC, attention = inference.run_members(members, [0, 0], [sequences], list(views.VIEWS), CPU)
    assert logits_VMBC.shape == (4, 2, 4, 3)
    for view, (name, member), (video, sequence) in itertools.product(
        range(4), enumerate(members), enumerate(sequences)
    ):
        view_TD = list(views.VIEWS.values())[view](sequence)
        with torch.inference_mode():
            alone = member(torch.tensor(view_TD.astype(np.float32))[None], torch.tensor([len(view_TD)]))
        np.testing.assert_allclose(logits_VMBC[view, name, video], alone.logits_BC[0], atol=1e-6)
    assert [len(row) for row in attention] == [5, 3, 5, 1]


def test_each_member_sees_the_features_of_its_backbone(tmp_path: Path) -> None:
    wide = TemporalClassifier(2048, 3, MODEL)
    narrow = TemporalClassifier(1280, 3, MODEL)
    members = [
        MemberRecord(
            file=files.member_file(index),
            backbone=fitted.name,
            digest=files.write_member(str(tmp_path), index, model.state_dict()),
        )
        for index, (fitted, model) in enumerate([(RESNET, wide), (LITE0, narrow), (RESNET, wide)])
    ]
    spaces = [space_at_origin(1280, 1.0), space_at_origin(2048, 4.0)]
    none = ValidationScores(
        trust_B=np.array([], np.float32),
        correct_B=np.array([], bool),
        ood_B=np.array([], np.float32),
        source_B=np.array([], np.int64),
    )
    data = TrustData(
        spaces={Look.FULL: spaces},
        discriminants=[even_discriminant(3, dim) for dim in (1280, 2048)],
        full=dict.fromkeys(("plain", "tta"), none),
    )
    info = EnsembleInfo(
        classes=["A", "B", "C"],
        backbones=[LITE0, RESNET],
        model=MODEL,
        members=members,
        training={},
        versions={},
        views=EVEN_VIEWS,
        calibration=calibrated(1.0),
        trust=TrustInfo(
            digest=calibration_file.write_trust(str(tmp_path), data),
            ood=ood_line(2.0, 8.0, line=0.75),
            plain=NEUTRAL_TRUST,
            tta=NEUTRAL_TRUST,
        ),
    )
    write_info(str(tmp_path), info)
    loaded = files.load(str(tmp_path), CPU)
    assert loaded.info == info
    generator = np.random.default_rng(0)
    sequences_S = [
        [generator.normal(size=(length, dim)).astype(np.float16) for length in (3, 2)] for dim in (1280, 2048)
    ]
    output = loaded(sequences_S)
    for video in range(2):
        for member, (model, space) in enumerate([(wide, 1), (narrow, 0), (wide, 1)]):
            sequence = torch.tensor(sequences_S[space][video].astype(np.float32))[None]
            with torch.inference_mode():
                logits = model.eval()(sequence, torch.tensor([sequence.shape[1]])).logits_BC[0]
            np.testing.assert_allclose(
                output.member_probabilities_MBC[member, video], logits.softmax(0).numpy(), atol=1e-5
            )
    # At unit length the distances are 1 and 2: the mean of 1 / 2 and 2 / 8, divided by the line.
    assert output.ood_score_B.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)
    moved = replace(info, members=[members[0], replace(members[1], backbone="resnet50"), members[2]])
    assert moved.ensemble_id != info.ensemble_id


def test_a_segment_has_the_temperature_of_its_number_of_frames(directory: str) -> None:
    # The plan samples 73 frames per video at temperature 2. One frame has temperature 8, four have temperature 4.
    info = replace(read_info(directory), segments=[segments_of(1, 8.0), segments_of(4, 4.0)])
    write_info(directory, info)
    loaded = files.load(directory, CPU)
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(length, 1280)).astype(np.float16) for length in (1, 2, 4, 73, 80)]
    logits_VMBC, _ = inference.run_members(
        [files.load_member(directory, info, index).eval() for index in range(2)], [0, 0], [sequences], ["original"], CPU
    )
    mean_BC = logits_VMBC[0].softmax(dim=2).mean(dim=0).numpy()
    # Halfway between 1 and 4 frames on a logarithmic scale lies 2, and between 8 and 4 the temperature 4 √2.
    for row, temperature in enumerate([8.0, 4 * 2**0.5, 4.0, 2.0, 2.0]):
        expected_C = mean_BC[row] ** (1 / temperature)
        found_C = loaded.segment_probabilities([sequences])[row]
        np.testing.assert_allclose(found_C, expected_C / expected_C.sum(), rtol=1e-5)


def test_with_views_probabilities_are_their_weighted_mean_at_a_temperature_of_their_own(directory: str) -> None:
    loaded = files.load(directory, CPU)
    sequences = [np.random.default_rng(1).normal(size=(4, 1280)).astype(np.float16)]
    output = loaded([sequences], tta=True)
    assert output.view_probabilities_VBC.shape == (4, 1, 3)
    np.testing.assert_allclose(output.probabilities_BC, output.view_probabilities_VBC.mean(axis=0), atol=1e-6)
    assert loaded([sequences]).view_probabilities_VBC.shape == (1, 1, 3)
    # At unit length the distance to the classes at the origin is 1: half of the line, 2.
    assert float(output.ood_score_B[0]) == pytest.approx(0.5, rel=1e-4)
    assert output.trust_score_B[0] == pytest.approx(output.probabilities_BC.max(), abs=1e-5)


def test_the_id_changes_with_what_decides_a_prediction(directory: str) -> None:
    info = read_info(directory)
    others = [
        replace(info, calibration=calibrated(1.0)),
        with_digest(info, "x"),
        replace(info, views=[replace(view, weight=0.5) for view in info.views]),
        replace(info, classes=["B", "A", "C"]),
        replace(info, backbones=[replace(LITE0, feature_spec=replace(SPEC, weights_digest="1"))]),
        replace(info, members=[*info.members[:1], replace(info.members[1], digest="x")]),
        replace(info, model=replace(info.model, num_attention_heads=1)),
        replace(info, segments=[segments_of(1, 3.0)]),
        replace(info, segments=[segments_of(1, 4.0)]),
    ]
    assert len({other.ensemble_id for other in [info, *others]}) == 10
    assert replace(info, training={"a": 1}).ensemble_id == info.ensemble_id


def test_an_unfinished_ensemble_is_refused(directory: str) -> None:
    (Path(directory) / "ensemble.json").unlink()
    with pytest.raises(
        ConfigError, match=r"must be a directory that jobs/train.py finished, got .* \(no ensemble.json"
    ):
        load_refused(directory)


def test_a_member_that_was_changed_is_refused(directory: str) -> None:
    path = Path(directory) / "member_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"member_1.safetensors: is not the file that ensemble.json lists"):
        load_refused(directory)


def test_a_member_that_is_gone_is_refused(directory: str) -> None:
    (Path(directory) / "member_0.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"member_0.safetensors: cannot be loaded"):
        load_refused(directory)


@pytest.mark.parametrize("text", ["{}", "[]", "no json"])
def test_a_damaged_description_is_refused(directory: str, text: str) -> None:
    (Path(directory) / "ensemble.json").write_text(text)
    with pytest.raises(ConfigError, match=r"not an ensemble that jobs/train\.py wrote"):
        read_info(directory)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ["A", "A", "B"]}, r"classes must be at least 2, each once, got \['A', 'A', 'B'\]"),
        (
            {"calibration": calibrated(0.0)},
            "temperature must be above 0 and finite, got 0.0",
        ),
        ({"members": []}, "members must be between 1 and 256, got 0"),
        ({"backbones": []}, r"backbones must be at least 1, each once, got \[\]"),
        (
            {"backbones": [LITE0] * 2},
            r"backbones must be at least 1, each once, got \['efficientnet_lite0', 'efficientnet_lite0'\]",
        ),
        (
            {"backbones": [replace(LITE0, feature_spec=replace(SPEC, backbone="vgg"))]},
            "backbone must be one of .*, got 'vgg'",
        ),
        (
            {"backbones": [replace(LITE0, feature_spec=replace(SPEC, sampling={"num_frames": 10**12}))]},
            "num_frames of efficientnet_lite0 must be between 1 and 4096, got 1000000000000",
        ),
        ({"backbones": [replace(LITE0, feature_dim=7)]}, "feature_dim of efficientnet_lite0 must be 1280, got 7"),
        (
            {"backbones": [replace(LITE0, preprocessing={"mean": 1})]},
            "preprocessing of efficientnet_lite0 must be its feature_spec's transform {}, got {'mean': 1}",
        ),
        (
            {"calibration": calibrated(math.nan)},
            "temperature must be above 0 and finite, got nan",
        ),
        (
            {"segments": [segments_of(1, 0.0)]},
            "temperature of segments 0 must be above 0 and finite, got 0.0",
        ),
        (
            {"segments": [segments_of(1, math.inf)]},
            "temperature of segments 0 must be above 0 and finite, got inf",
        ),
        (
            {"calibration": calibrated(1.0, tta=math.nan)},
            r"calibration\.tta\.temperature must be a number, got nan",
        ),
        (
            {"members": [record("../member_0.safetensors")]},
            r"file of member 0 must be the name of a file in the ensemble's directory, got '\.\./member_0.safetensors'",
        ),
        (
            {"members": [record("s3://other/f")]},
            "file of member 0 must be the name of a file in the ensemble's directory, got 's3://other/f'",
        ),
        (
            {"members": [record("f")] * 2},
            "file of member 0 must be of no other member, got 'f'",
        ),
        (
            {"members": [record("f")] * 5000},
            "members must be between 1 and 256, got 5000",
        ),
        ({"members": [record("f", "vgg")]}, "members of efficientnet_lite0 must be at"),
        (
            {"views": [*EVEN_VIEWS, replace(EVEN_VIEWS[0], name="sideways")]},
            r"views must be of original, reverse, faster, slower, each once, got \[.*'sideways'\]",
        ),
        (
            {"backbones": [LITE0, RESNET], "members": [record("f"), record("g", "resnet50")]},
            r"trust\.ood\.distances must be 2, one per backbone, got 1",
        ),
        ({"backbones": [LITE0, RESNET]}, "members of resnet50 must be at least 1, got 0"),
        (
            {"backbones": [LITE0, replace(RESNET, feature_spec=replace(RESNET.feature_spec, decoder="e"))]},
            "sampling and decoder of resnet50 must be those of efficientnet_lite0 .*'d'.*, got .*'e'",
        ),
    ],
)
def test_values_that_cannot_be_are_named(directory: str, values: dict[str, Any], message: str) -> None:
    # As an earlier version wrote it, with NaN and Infinity.
    edited = replace(read_info(directory), **values)
    Path(directory, "ensemble.json").write_text(json.dumps(edited.as_json()))
    with pytest.raises(ConfigError, match=message):
        read_info(directory)


def test_an_ensemble_with_a_value_that_is_not_finite_is_not_written(directory: str) -> None:
    info = read_info(directory)
    trust = replace(info.trust, ood=ood_line(line=math.nan))
    before = Path(directory, "ensemble.json").read_text()
    with pytest.raises(ConfigError) as error:
        write_info(directory, replace(info, trust=trust))
    assert str(error.value) == (
        "the ensemble cannot be published: trust.ood.line must be finite; look for videos with equal features, or for "
        "classes with a single source"
    )
    assert Path(directory, "ensemble.json").read_text() == before


def test_a_description_that_was_edited_is_refused(directory: str) -> None:
    path = Path(directory) / "ensemble.json"
    path.write_text(path.read_text().replace('"temperature": 2.0', '"temperature": 1.0'))
    with pytest.raises(ConfigError, match="was changed since it was written"):
        read_info(directory)


def with_model(directory: str, **sizes: Any) -> None:
    """Write other sizes into `ensemble.json`, with a matching id, as an attacker would."""
    info = read_info(directory)
    write_info(directory, replace(info, model=replace(info.model, **sizes)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_dim": 50_000},
            r"member_0\.safetensors: tensor attention\.in_proj_bias must have the shape \[300000\] by the sizes in "
            r"ensemble\.json, has \[24\]",
        ),
        (
            {"hidden_dim": 2**40},
            r"member_0\.safetensors: (tensor .* must have the shape|the sizes in .* make no model)",
        ),
        (
            {"num_lstm_layers": 10**9},
            r"must hold the weights of 1000000000 layers \(num_lstm_layers in ensemble\.json\), holds \d+ tensors",
        ),
        (
            {"classifier_dims": (8,) * 100_000},
            r"must hold the weights of 100000 layers \(classifier_dims in ensemble\.json\), holds \d+ tensors",
        ),
    ],
)
def test_sizes_are_checked_against_the_header_before_memory_is_taken(
    directory: str, sizes: dict[str, Any], message: str
) -> None:
    with_model(directory, **sizes)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=message):
        load_refused(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100_000


def test_a_header_that_is_longer_than_its_file_is_refused(directory: str) -> None:
    (Path(directory) / "member_0.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(ConfigError, match=r"header must have at most .* states 1099511627776 in a file of 10"):
        load_refused(directory)


@pytest.mark.parametrize("header", [b"[]", b"no json", json.dumps({"a": {"dtype": "F32"}}).encode()])
def test_a_header_that_is_none_is_refused(directory: str, header: bytes) -> None:
    path = Path(directory) / "member_0.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ConfigError, match=r"member_0\.safetensors: not a safetensors file"):
        load_refused(directory)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_finite_numbers_are_refused(directory: str, value: float) -> None:
    state = TemporalClassifier(1280, 3, MODEL).state_dict()
    state["lstm.weight_hh_l0"][0, 0] = value
    digest = files.write_member(directory, 1, state)
    info = read_info(directory)
    write_info(directory, replace(info, members=[info.members[0], replace(info.members[1], digest=digest)]))
    expected = r"member_1\.safetensors: weights must be finite, lstm\.weight_hh_l0 holds NaN or infinity"
    with pytest.raises(ConfigError, match=expected):
        load_refused(directory)


def test_trust_data_that_is_no_number_is_refused(directory: str) -> None:
    info = read_info(directory)
    data = calibration_file.read_trust(directory, info)
    data.discriminants[0].offset_C[1] = math.nan
    digest = calibration_file.write_trust(directory, data)
    write_info(directory, with_digest(info, digest))
    with pytest.raises(ConfigError, match=r"trust\.safetensors: values must be numbers, 0\.offset_C holds NaN"):
        load_refused(directory)


def with_trust_header(directory: str, changes: dict[str, Any], length: int | None = None) -> None:
    """Write `trust.safetensors` with entries of its header changed, or removed by None, as an attacker would.

    The file gets the length of the arrays in the header, or else `length` bytes, without taking room on the disk.
    """
    path = Path(directory) / "trust.safetensors"
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header = {name: entry for name, entry in {**header, **changes}.items() if entry is not None}
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    item_bytes = {"F32": 4, "F64": 8, "U8": 1, "I64": 8}
    num_bytes = sum(math.prod(entry["shape"]) * item_bytes[entry["dtype"]] for entry in header.values())
    os.truncate(path, 8 + len(encoded) + num_bytes if length is None else length)


def entry(dtype: str, *shape: int) -> dict[str, Any]:
    """An array in a safetensors header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"full.0.centres_CD": entry("F32", 10**7, 1280)},
            "full.0.centres_CD must have the shape [3, 1280] by the sizes in ensemble.json, has [10000000, 1280]",
        ),
        (
            {"full.0.directions_CRD": entry("F32", 3, 129, 1280)},
            "full.0.directions_CRD must have the shape [3, at most 128, 1280] by the sizes in ensemble.json, has "
            "[3, 129, 1280]",
        ),
        (
            {"0.towards_DC": entry("F32", 3, 1280)},
            "0.towards_DC must have the shape [1280, 3] by the sizes in ensemble.json, has [3, 1280]",
        ),
        (
            {"plain.trust_B": entry("F32", 2)},
            "plain.trust_B must have the shape [0] by the sizes in ensemble.json, has [2]",
        ),
        (
            {"tta.correct_B": entry("F32", 0)},
            "tta.correct_B must have one of the number formats BOOL, U8, I32, I64, has F32",
        ),
        ({"evil": entry("U8", 10**11)}, "holds 'evil', which is no array of this ensemble"),
        ({"0.offset_C": None}, "must hold 0.offset_C, which is missing"),
        (
            {"probe.probabilities_VBC": entry("F32", 4, 2, 3), "probe.num_frames_B": entry("I64", 2)},
            "must hold 0.probe_TD, which is missing",
        ),
        ({"0.offset_C": entry("F32", -3)}, "not a safetensors file (ValueError('a size must be a number from 0, got"),
    ],
)
def test_arrays_of_trust_data_are_checked_in_the_header_before_memory_is_taken(
    directory: str, changes: dict[str, Any], message: str
) -> None:
    with_trust_header(directory, changes)
    info = read_info(directory)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=re.escape(f"--ensemble {directory}/trust.safetensors: {message}")):
        calibration_file.read_trust(directory, info)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


@pytest.mark.parametrize("name", ["trust.safetensors", "member_1.safetensors"])
def test_a_file_longer_than_its_arrays_is_refused_before_it_is_read(directory: str, name: str) -> None:
    os.truncate(Path(directory) / name, 50 * 1024**3)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=rf"{name}: must have \d+ bytes by the shapes in its header, has 53687091200"):
        load_refused(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


def test_numbers_of_frames_that_do_not_fit_the_probed_features_are_refused(directory: str) -> None:
    info = read_info(directory)
    probe = PrecisionProbe(
        sequences_S=[[np.zeros((2, 1280), np.float16), np.zeros((3, 1280), np.float16)]],
        probabilities_VBC=np.full((4, 2, 3), 1 / 3, np.float32),
    )
    data = replace(calibration_file.read_trust(directory, info), probe=probe)
    digest = calibration_file.write_trust(directory, data)
    assert calibration_file.read_trust(directory, with_digest(info, digest)).probe is not None
    arrays = safetensors.numpy.load_file(Path(directory) / "trust.safetensors")
    arrays["probe.num_frames_B"] = np.array([2, 4000])
    content = safetensors.numpy.save(arrays)
    (Path(directory) / "trust.safetensors").write_bytes(content)
    edited = with_digest(info, hashlib.sha256(content).hexdigest())
    with pytest.raises(ConfigError, match=r"probe\.num_frames_B must be at least 1 each and 5 in all, got \[2, 4000\]"):
        calibration_file.read_trust(directory, edited)
