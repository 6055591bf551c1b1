"""The cache of converted backbones: names of its files, repeated conversions, and their number."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from vidclf.backbones import openvino_cache, openvino_convert
from vidclf.backbones.agreement import reference_photos
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.openvino_cache import Source
from vidclf.backbones.openvino_engine import OpenVinoModel, openvino_engine
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights

SOURCE = Source(
    backbone="efficientnet_lite0",
    weights_digest="0" * 64,
    preprocessing=preprocessing("efficientnet_lite0", "DEFAULT").as_json(),
)
MODEL = OpenVinoModel(
    graph=b"<xml/>",
    weights=np.arange(5, dtype=np.uint8),
    probe_THWC=reference_photos(8),
    probed_TD=np.ones((8, 3), np.float32),
)


def lite0(weights: str) -> BackboneModel:
    return resolve("efficientnet_lite0", weights)


@pytest.fixture
def converted_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The `weights` argument of every conversion, none of which really takes place."""
    weights_so_far: list[str] = []

    def fake(model: BackboneModel, state: dict[str, object]) -> OpenVinoModel:
        weights_so_far.append(model.weights)
        return MODEL

    monkeypatch.setattr(openvino_convert, "convert", fake)
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path / "cache"))
    return weights_so_far


def test_a_backbone_is_converted_once(converted_weights: list[str], tmp_path: Path) -> None:
    first, second = (openvino_cache.converted(SOURCE, lite0(name), {}) for name in ("one", "two"))
    assert converted_weights == ["one"]
    assert first is MODEL
    assert (second.graph, second.weights.tolist(), second.is_quantized) == (b"<xml/>", [0, 1, 2, 3, 4], False)
    np.testing.assert_array_equal(second.probe_THWC, MODEL.probe_THWC)
    np.testing.assert_array_equal(second.probed_TD, MODEL.probed_TD)
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith("efficientnet_lite0-")


@pytest.mark.parametrize(
    "other",
    [
        replace(SOURCE, weights_digest="1" * 64),
        replace(SOURCE, preprocessing={**SOURCE.preprocessing, "mean": [0.0, 0.0, 0.0]}),
    ],
)
def test_other_weights_and_another_normalisation_are_other_files(converted_weights: list[str], other: Source) -> None:
    openvino_cache.converted(SOURCE, lite0("one"), {})
    openvino_cache.converted(other, lite0("two"), {})
    assert converted_weights == ["one", "two"]


def test_a_damaged_file_is_made_anew(
    converted_weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    openvino_cache.converted(SOURCE, lite0("one"), {})
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:20])
    openvino_cache.converted(SOURCE, lite0("two"), {})
    assert converted_weights == ["one", "two"]
    assert f"{file} cannot be read, so the backbone is converted again: " in capsys.readouterr().err
    openvino_cache.converted(SOURCE, lite0("three"), {})
    assert converted_weights == ["one", "two"]


def test_without_a_writable_cache_the_job_goes_on(
    converted_weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file in the place of the directory")
    for weights in ("one", "two"):
        assert openvino_cache.converted(SOURCE, lite0(weights), {}) is MODEL
    assert converted_weights == ["one", "two"]
    assert "could not be written" in capsys.readouterr().err


def test_a_user_without_a_home_has_no_cache(converted_weights: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VIDCLF_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    for weights in ("one", "two"):
        assert openvino_cache.converted(SOURCE, lite0(weights), {}) is MODEL
    assert converted_weights == ["one", "two"]


def test_the_least_recently_used_files_are_deleted(
    converted_weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cache, "MAX_FILES", 2)
    sources = [replace(SOURCE, weights_digest=str(number) * 64) for number in range(3)]
    for source in sources[:2]:
        openvino_cache.converted(source, lite0("made"), {})
    for file in (tmp_path / "cache").iterdir():
        os.utime(file, (1000, 1000))
    openvino_cache.converted(sources[0], lite0("not made"), {})  # so this file is the last one used
    openvino_cache.converted(sources[2], lite0("made"), {})
    converted_weights.clear()
    openvino_cache.converted(sources[0], lite0("not made"), {})
    openvino_cache.converted(sources[1], lite0("made anew"), {})
    assert converted_weights == ["made anew"]


def test_8_bit_weights_are_not_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(openvino_convert, "convert", lambda *_: replace(MODEL, is_quantized=True))
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path))
    openvino_cache.converted(SOURCE, lite0("int8.safetensors"), {})
    assert list(tmp_path.iterdir()) == []


def test_a_cached_backbone_gives_the_same_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDCLF_CACHE", str(tmp_path))
    use_tiny_cnn(monkeypatch)
    state = load_weights(*TINY)
    converted, cached = (openvino_cache.converted(SOURCE, lite0("random"), state) for _ in range(2))
    assert converted is not cached
    frames_THWC = reference_photos(224)
    np.testing.assert_array_equal(
        openvino_engine(converted, "fp32")(frames_THWC), openvino_engine(cached, "fp32")(frames_THWC)
    )
