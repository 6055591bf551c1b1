"""What runs a backbone: the conversion to OpenVINO, the choice of precision, the fall back on torch."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from vidclf.features import backbone, engine
from vidclf.features.engine import Converted, Engine

LITE0 = ("efficientnet_lite0", "DEFAULT")


@pytest.fixture(scope="module")
def converted() -> Converted:
    return engine.convert(*LITE0, backbone.load_weights(*LITE0))


@pytest.fixture(scope="module")
def frames_THWC() -> engine.Frames:
    return engine.probe(224)


def test_openvino_gives_torchs_features(converted: Converted, frames_THWC: engine.Frames) -> None:
    network = backbone.build(*LITE0, backbone.load_weights(*LITE0), "cpu")
    ours = engine.load(converted, *LITE0, "cpu", "fp32")
    assert ours.name == "openvino fp32"
    np.testing.assert_allclose(ours(frames_THWC), network(torch.from_numpy(frames_THWC)).numpy(), atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frames_features_do_not_depend_on_its_neighbours(
    converted: Converted, frames_THWC: engine.Frames, precision: str
) -> None:
    cnn = engine.load(converted, *LITE0, "cpu", precision)
    many = np.concatenate([frames_THWC, frames_THWC[::-1], frames_THWC])  # 24 frames: chunks of 16 and 8
    one_by_one = np.concatenate([cnn(many[i : i + 1]) for i in range(24)])
    np.testing.assert_array_equal(cnn(many), one_by_one)


def test_agreement_of_hand_worked_features() -> None:
    reference_TD = np.array([[3, 1], [1, 1]], np.float32)  # centred: (1, 0) and (-1, 0)
    assert engine.agreement(reference_TD, reference_TD) == 1.0
    # Centred: (1, 1), at 45 degrees to (1, 0), and (-1, 0): the mean of 0.7071 and 1.
    some_TD = np.array([[3, 2], [1, 1]], np.float32)
    assert engine.agreement(some_TD, reference_TD) == pytest.approx((np.sqrt(0.5) + 1) / 2)


@pytest.mark.parametrize(("noise", "chosen"), [(0.01, "half"), (1.0, "full")])
def test_the_faster_precision_is_taken_where_it_agrees(noise: float, chosen: str) -> None:
    exact_TD = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    rough_TD = exact_TD + noise * np.random.default_rng(1).normal(size=(8, 100)).astype(np.float32)
    full = Engine(name="full", run=lambda frames_THWC: exact_TD)
    half = Engine(name="half", run=lambda frames_THWC: rough_TD)
    assert engine.faster_of(full, half, engine.probe(8)).name == chosen


def test_of_itself_it_takes_what_the_processor_can_and_the_probe_allows(
    converted: Converted, frames_THWC: engine.Frames
) -> None:
    exact_TD = engine.load(converted, *LITE0, "cpu", "fp32")(frames_THWC)
    cnn = engine.load(converted, *LITE0, "cpu", "auto")
    assert cnn.name in ("openvino bf16", "openvino fp32")
    assert engine.agreement(cnn(frames_THWC), exact_TD) >= 0.99


def test_the_probe_is_of_photographs_and_of_flat_pictures(frames_THWC: engine.Frames) -> None:
    assert frames_THWC.shape == (8, 224, 224, 3)
    levels = [len(np.unique(frame)) for frame in frames_THWC]
    assert min(levels[:4]) > 100
    assert max(levels[4:]) <= 4


def test_torch_runs_what_is_not_converted(frames_THWC: engine.Frames) -> None:
    state = backbone.load_weights(*LITE0)
    load = partial(engine.load, state, *LITE0, "cpu")
    exact, half = load("auto"), load("bf16")
    assert (exact.name, half.name) == ("torch cpu fp32", "torch cpu bf16")
    assert 0.9 < engine.agreement(half(frames_THWC), exact(frames_THWC)) < 1


def test_a_conversion_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "agreement", lambda some_TD, reference_TD: 0.5)
    with pytest.raises(engine.ConversionError, match=r"agree with torch's to a cosine of 0\.50000 only"):
        engine.convert(*LITE0, backbone.load_weights(*LITE0))


def test_without_openvino_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(engine.ConversionError, match="openvino"):
        engine.convert(*LITE0, backbone.load_weights(*LITE0))


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys; from vidclf.features import engine; engine.openvino(); import openvino.tools.ovc;"
        "print(sys.modules['openvino_telemetry'], openvino.tools.ovc.telemetry.__class__.__module__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["None", "openvino.tools.ovc.telemetry_stub"]
