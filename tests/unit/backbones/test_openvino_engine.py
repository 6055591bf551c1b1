"""What runs a backbone: the conversion to OpenVINO, the choice of precision, the fall back on torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vidclf.backbones import openvino_convert, openvino_engine, torch_engine
from vidclf.backbones.agreement import Frames, agreement, reference_photos
from vidclf.backbones.cnn import build
from vidclf.backbones.engine import Engine
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.backbones.weights import load_weights

LITE0 = ("efficientnet_lite0", "DEFAULT")


@pytest.fixture(scope="module")
def converted() -> OpenVinoModel:
    return openvino_convert.convert(*LITE0, load_weights(*LITE0))


@pytest.fixture(scope="module")
def frames_THWC() -> Frames:
    return reference_photos(224)


def test_openvino_gives_torchs_features(converted: OpenVinoModel, frames_THWC: Frames) -> None:
    network = build(*LITE0, load_weights(*LITE0), "cpu")
    ours = openvino_engine.load(converted, *LITE0, "fp32")
    assert ours.name == "openvino fp32"
    np.testing.assert_allclose(ours(frames_THWC), network(torch.from_numpy(frames_THWC)).numpy(), atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frames_features_do_not_depend_on_its_neighbours(
    converted: OpenVinoModel, frames_THWC: Frames, precision: str
) -> None:
    cnn = openvino_engine.load(converted, *LITE0, precision)
    many = np.concatenate([frames_THWC, frames_THWC[::-1], frames_THWC])  # 24 frames: chunks of 16 and 8
    one_by_one = np.concatenate([cnn(many[i : i + 1]) for i in range(24)])
    np.testing.assert_array_equal(cnn(many), one_by_one)


def test_agreement_of_hand_worked_features() -> None:
    reference_TD = np.array([[3, 1], [1, 1]], np.float32)  # centred: (1, 0) and (-1, 0)
    assert agreement(reference_TD, reference_TD) == 1.0
    # Centred: (1, 1), at 45 degrees to (1, 0), and (-1, 0): the mean of 0.7071 and 1.
    some_TD = np.array([[3, 2], [1, 1]], np.float32)
    assert agreement(some_TD, reference_TD) == pytest.approx((np.sqrt(0.5) + 1) / 2)


@pytest.mark.parametrize(("noise", "chosen"), [(0.01, "openvino bf16"), (1.0, "openvino fp32")])
def test_bf16_is_taken_where_it_agrees(
    converted: OpenVinoModel, monkeypatch: pytest.MonkeyPatch, noise: float, chosen: str
) -> None:
    exact_TD = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    rough_TD = exact_TD + noise * np.random.default_rng(1).normal(size=(8, 100)).astype(np.float32)

    def fake(network: OpenVinoModel, precision: str) -> Engine:
        return Engine(name=f"openvino {precision}", run=lambda frames_THWC: rough_TD)

    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: True)
    monkeypatch.setattr(openvino_engine, "openvino_engine", fake)
    network = replace(converted, probed_TD=exact_TD)
    assert openvino_engine.load(network, *LITE0, "auto").name == chosen


@pytest.mark.parametrize(("has_bf16", "warnings"), [(True, 0), (False, 1)])
def test_bf16_that_no_instructions_help_is_warned_of(
    converted: OpenVinoModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_bf16: bool,
    warnings: int,
) -> None:
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: has_bf16)
    assert openvino_engine.load(converted, *LITE0, "bf16").name == "openvino bf16"
    assert capsys.readouterr().err.count("--precision bf16: this processor has no instructions for it") == warnings


def test_of_itself_it_takes_what_the_processor_can_and_the_probe_allows(
    converted: OpenVinoModel, frames_THWC: Frames
) -> None:
    exact_TD = openvino_engine.load(converted, *LITE0, "fp32")(frames_THWC)
    cnn = openvino_engine.load(converted, *LITE0, "auto")
    assert cnn.name in ("openvino bf16", "openvino fp32")
    assert agreement(cnn(frames_THWC), exact_TD) >= 0.99


def test_the_probe_is_of_photographs_and_of_flat_pictures(frames_THWC: Frames) -> None:
    assert frames_THWC.shape == (8, 224, 224, 3)
    levels = [len(np.unique(frame)) for frame in frames_THWC]
    assert min(levels[:4]) > 100
    assert max(levels[4:]) <= 4


def test_torch_runs_what_is_not_converted(frames_THWC: Frames) -> None:
    state = load_weights(*LITE0)
    load = partial(torch_engine.load, *LITE0, state, "cpu")
    exact, half = load("auto"), load("bf16")
    assert (exact.name, half.name) == ("torch cpu fp32", "torch cpu bf16")
    assert 0.9 < agreement(half(frames_THWC), exact(frames_THWC)) < 1


@pytest.mark.parametrize(("name", "weights"), [LITE0, ("resnet50", "random"), ("efficientnet_v2_s", "random")])
def test_batch_norms_are_folded_into_convolutions(name: str, weights: str) -> None:
    network = build(name, weights, load_weights(name, weights), "cpu")
    side = network.preprocessing.transform.crop_size
    frames_THWC = reference_photos(side)[:2]
    exact_TD = torch_engine.eager(network)(frames_THWC)
    network.trunk = torch_engine.folded(network.trunk)
    np.testing.assert_allclose(torch_engine.eager(network)(frames_THWC), exact_TD, rtol=1e-3, atol=1e-4)
    left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.trunk.modules())
    # EfficientNet-Lite0's convolutions are no modules to torch's tracer, so its norms stay.
    assert left == (49 if name == LITE0[0] else 0)


def test_on_a_gpu_weights_are_bf16_and_the_frames_normalised_in_fp32(frames_THWC: Frames) -> None:
    network = build(*LITE0, load_weights(*LITE0), "cpu")
    half = torch_engine.in_bf16(network)
    assert {parameter.dtype for parameter in half.trunk.parameters()} == {torch.bfloat16}
    assert (half.scale.dtype, network.dtype, half.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert 0.99 < agreement(torch_engine.eager(half)(frames_THWC), torch_engine.eager(network)(frames_THWC)) < 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_gpu_gives_the_cpus_features(converted: OpenVinoModel, frames_THWC: Frames, precision: str) -> None:
    state = load_weights(*LITE0)
    many = np.concatenate([frames_THWC, frames_THWC[::-1]] * 20)  # 320 frames: 128, 128 and 64
    cnn = torch_engine.load(*LITE0, state, "cuda", precision)
    exact_TD = openvino_engine.load(converted, *LITE0, "fp32")(many)
    assert cnn.name == f"torch cuda {'fp32' if precision == 'fp32' else 'bf16'}"
    assert agreement(cnn.run(many), exact_TD) > (0.9999 if precision == "fp32" else 0.99)


def test_a_worker_that_decodes_and_embeds_does_without_torch() -> None:
    code = (
        "import sys, vidclf.pipeline.decode_embed_stage; from vidclf.backbones import openvino_engine; "
        "openvino_engine.openvino(); print({0})"
    )
    loaded = "[name for name in ('torch', 'torchvision', 'sklearn') if name in sys.modules]"
    said = subprocess.run([sys.executable, "-c", code.format(loaded)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_conversion_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_convert, "agreement", lambda some_TD, reference_TD: 0.5)
    with pytest.raises(ConversionError, match=r"agree with torch's to a cosine of 0\.50000 only"):
        openvino_convert.convert(*LITE0, load_weights(*LITE0))


def test_without_openvino_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConversionError, match="openvino"):
        openvino_convert.convert(*LITE0, load_weights(*LITE0))


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys; from vidclf.backbones import openvino_engine; openvino_engine.openvino(); "
        "import openvino.tools.ovc;"
        "print(sys.modules['openvino_telemetry'], openvino.tools.ovc.telemetry.__class__.__module__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["None", "openvino.tools.ovc.telemetry_stub"]
