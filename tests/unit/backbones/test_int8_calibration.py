"""Weights in 8-bit integers: calibrated on an archive, distinguished from others, refused where they give others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from vidclf.archive.manifest import list_archive
from vidclf.backbones import int8_weights, openvino_engine
from vidclf.backbones.agreement import agreement, reference_photos
from vidclf.backbones.int8_calibration import Drift, drift_lines, quantize
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.openvino_engine import ConversionError
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights, weights_digest
from vidclf.config import ExtractConfig, QuantizeConfig
from vidclf.errors import ConfigError
from vidclf.pipeline import engines, extract

ARCHIVE = Path(__file__).resolve().parents[3] / "examples" / "archive"
LITE0 = "efficientnet_lite0"


def config(output: Path, **values: Any) -> QuantizeConfig:
    return QuantizeConfig(
        input=str(ARCHIVE),
        backbone=LITE0,
        output=str(output),
        **{"weights": "random", "sample": 8, "frames_per_video": 2, **values},
    )


def run(config: QuantizeConfig) -> str:
    return quantize(config, list_archive(config.input, labelled=False).manifest)


@pytest.fixture(autouse=True, scope="module")
def tiny_cnn() -> Iterator[None]:
    """NNCF takes half a minute for EfficientNet-Lite0; `tests/system/test_quantize.py` has the figures for it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tiny_cnn(monkeypatch)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("weights") / "int8.safetensors"
    return path, run(config(path))


@pytest.fixture(scope="module")
def state(written: tuple[Path, str]) -> State:
    return load_weights(LITE0, str(written[0]))


def test_it_is_calibrated_on_some_videos_and_measured_on_others(written: tuple[Path, str]) -> None:
    path, text = written
    calibrated, agreement, speed, weights = text.splitlines()
    assert calibrated == "calibrated  12 frames of 6 videos"
    match = re.fullmatch(
        r"agreement   int8 (0\.\d{4})(; bf16 [01]\.\d{4})? "
        r"\(mean cosine of centred features with fp32, 4 frames of other videos\)",
        agreement,
    )
    assert match is not None, agreement
    assert float(match[1]) > 0.9
    assert re.fullmatch(r"speed       int8 [\d.]+, (bf16 [\d.]+, )?fp32 [\d.]+ ms of one core per frame", speed)
    assert weights == f"weights     {path}, for --weights of extract"


def test_the_lines_on_a_drift() -> None:
    drift = Drift(num_frames=128, int8=0.99123, bf16=0.9994, frame_s={"int8": 0.0091, "bf16": 0.0167, "fp32": 0.04})
    assert drift_lines(drift) == [
        "agreement   int8 0.9912; bf16 0.9994 (mean cosine of centred features with fp32, 128 frames of other videos)",
        "speed       int8 9.10, bf16 16.70, fp32 40.00 ms of one core per frame",
    ]
    assert "bf16" not in drift_lines(replace(drift, bf16=None))[0]


def test_8_bit_weights_have_their_own_digest_and_run_in_int8(state: State) -> None:
    exact = load_weights(*TINY)
    assert weights_digest(state) != weights_digest(exact)
    full = openvino_engine.load(convert(resolve(*TINY), exact), *TINY, "fp32")
    frames_THWC = reference_photos(224)
    for precision in ("auto", "int8"):
        cnn = openvino_engine.load(
            convert(resolve(LITE0, "int8.safetensors"), state), LITE0, "int8.safetensors", precision
        )
        assert cnn.name == "openvino int8"
        features_TD = cnn(frames_THWC)
        assert 0.5 < agreement(features_TD, full(frames_THWC)) < 0.99999
        np.testing.assert_array_equal(features_TD[3:4], cnn(frames_THWC[3:4]))


def test_a_processor_that_gives_other_features_is_refused(state: State) -> None:
    network = convert(resolve(LITE0, "w.safetensors"), state)
    quantized_elsewhere = replace(network, probed_TD=network.probed_TD[::-1])
    with pytest.raises(ConversionError, match=r"--weights w\.safetensors: this processor computes other features"):
        openvino_engine.load(quantized_elsewhere, LITE0, "w.safetensors", "auto")


def test_other_backbones_and_precisions_are_refused(written: tuple[Path, str], state: State) -> None:
    weights = str(written[0])
    with pytest.raises(
        ConfigError, match=re.escape(f"--weights {weights}: holds 8-bit weights of efficientnet_lite0, not of resnet50")
    ):
        load_weights("resnet50", weights)
    int8_weights.check_precision(state, weights, "auto")
    int8_weights.check_precision(state, weights, "int8")
    with pytest.raises(ConfigError, match=r"--precision must be auto or int8 for --weights .*, got bf16"):
        int8_weights.check_precision(state, weights, "bf16")
    message = r"--precision int8: requires --weights that jobs/quantize\.py wrote, got random"
    with pytest.raises(ConfigError, match=message):
        extract.extract(
            ExtractConfig(manifest="m", output="o", backbone=(LITE0,), weights=("random",), precision="int8"),
            list_archive(str(ARCHIVE), labelled=False).manifest,
        )
    setup = SimpleNamespace(state=state, weights=weights, model=resolve(LITE0, weights))
    with pytest.raises(ConfigError, match="run only on CPUs"):
        engines.put_engine_source(setup, 1.0, None)  # type: ignore[arg-type]


def test_what_cannot_be_quantized_is_refused(written: tuple[Path, str], tmp_path: Path) -> None:
    weights = str(written[0])
    with pytest.raises(ConfigError, match="exists already; choose another name or --overwrite"):
        run(config(written[0]))
    with pytest.raises(ConfigError, match="are quantized already"):
        run(config(tmp_path / "a.safetensors", weights=weights))
    with pytest.raises(ConfigError, match=r"--output must be a \.safetensors file, got '.*a\.pt'"):
        config(tmp_path / "a.pt")
    (tmp_path / "archive").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "archive" / name).write_text("text")
    bad = replace(config(tmp_path / "a.safetensors"), input=str(tmp_path / "archive"))
    with pytest.raises(ConfigError, match="0 of 2 sampled videos could be decoded, calibration needs at least two"):
        run(bad)


def test_the_file_is_plain_safetensors(written: tuple[Path, str]) -> None:
    arrays = safetensors.numpy.load_file(written[0])
    assert sorted(arrays) == [f"openvino.{name}" for name in ("backbone", "constants", "graph", "probed")]
    assert arrays["openvino.backbone"].tobytes() == b"efficientnet_lite0"
    assert arrays["openvino.graph"].tobytes().lstrip().startswith(b"<?xml")
    assert arrays["openvino.probed"].shape == (8, 32)
