"""Converted backbones that are kept on a machine: what names them, when they are made anew, how many there are."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from vidclf.backbones import openvino_cache, openvino_convert
from vidclf.backbones.agreement import reference_photos
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.openvino_cache import Source
from vidclf.backbones.openvino_engine import OpenVinoModel, openvino_engine
from vidclf.backbones.weights import load_weights

SOURCE = Source(
    backbone="efficientnet_lite0",
    weights_digest="0" * 64,
    preprocessing=asdict(preprocessing("efficientnet_lite0", "DEFAULT")),
)
MADE = OpenVinoModel(
    graph=b"<xml/>",
    weights=np.arange(5, dtype=np.uint8),
    probe_THWC=reference_photos(8),
    probed_TD=np.ones((8, 3), np.float32),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The weights of the conversions that were made."""
    told: list[str] = []

    def fake(name: str, weights: str, state: dict[str, object]) -> OpenVinoModel:
        told.append(weights)
        return MADE

    monkeypatch.setattr(openvino_convert, "convert", fake)
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path / "cache"))
    return told


def test_a_backbone_is_converted_once(asked: list[str], tmp_path: Path) -> None:
    first, second = (openvino_cache.converted(SOURCE, name, {}) for name in ("one", "two"))
    assert asked == ["one"]
    assert first is MADE
    assert (second.graph, second.weights.tolist(), second.is_quantized) == (b"<xml/>", [0, 1, 2, 3, 4], False)
    np.testing.assert_array_equal(second.probe_THWC, MADE.probe_THWC)
    np.testing.assert_array_equal(second.probed_TD, MADE.probed_TD)
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith("efficientnet_lite0-")


@pytest.mark.parametrize(
    "other",
    [
        replace(SOURCE, weights_digest="1" * 64),
        replace(SOURCE, preprocessing={**SOURCE.preprocessing, "mean": [0.0, 0.0, 0.0]}),
    ],
)
def test_other_weights_and_another_normalisation_are_other_files(asked: list[str], other: Source) -> None:
    openvino_cache.converted(SOURCE, "one", {})
    openvino_cache.converted(other, "two", {})
    assert asked == ["one", "two"]


def test_a_damaged_file_is_made_anew(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openvino_cache.converted(SOURCE, "one", {})
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:20])
    openvino_cache.converted(SOURCE, "two", {})
    assert asked == ["one", "two"]
    assert f"{file} is converted anew: " in capsys.readouterr().err
    openvino_cache.converted(SOURCE, "three", {})
    assert asked == ["one", "two"]


def test_where_nothing_can_be_kept_the_job_goes_on(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file, where a directory should be")
    for weights in ("one", "two"):
        assert openvino_cache.converted(SOURCE, weights, {}) is MADE
    assert asked == ["one", "two"]
    assert "could not be kept" in capsys.readouterr().err


def test_a_user_without_a_home_keeps_nothing(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VIDCLF_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    for weights in ("one", "two"):
        assert openvino_cache.converted(SOURCE, weights, {}) is MADE
    assert asked == ["one", "two"]


def test_the_ones_used_longest_ago_go(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cache, "KEPT", 2)
    specs = [replace(SOURCE, weights_digest=str(number) * 64) for number in range(3)]
    for spec in specs[:2]:
        openvino_cache.converted(spec, "made", {})
    for file in (tmp_path / "cache").iterdir():
        os.utime(file, (1000, 1000))
    openvino_cache.converted(specs[0], "not made", {})  # which is used now
    openvino_cache.converted(specs[2], "made", {})
    asked.clear()
    openvino_cache.converted(specs[0], "not made", {})
    openvino_cache.converted(specs[1], "made anew", {})
    assert asked == ["made anew"]


def test_a_quantized_one_is_its_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(openvino_convert, "convert", lambda *_: replace(MADE, is_quantized=True))
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path))
    openvino_cache.converted(SOURCE, "int8.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_gives_the_same_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path))
    state = load_weights("efficientnet_lite0", "DEFAULT")
    made, kept = (openvino_cache.converted(SOURCE, "DEFAULT", state) for _ in range(2))
    assert made is not kept
    frames_THWC = reference_photos(224)
    np.testing.assert_array_equal(
        openvino_engine(made, "fp32")(frames_THWC), openvino_engine(kept, "fp32")(frames_THWC)
    )
