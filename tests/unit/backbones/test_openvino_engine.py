"""Inference engines: the conversion to OpenVINO, the choice of precision, and torch on CPUs and GPUs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from vidclf.backbones import cnn as cnn_module
from vidclf.backbones import openvino_convert, openvino_engine, torch_engine
from vidclf.backbones.agreement import Frames, agreement, reference_photos
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.backbones.resolve import resolve
from vidclf.backbones.torch_engine import Halving
from vidclf.backbones.weights import load_weights
from vidclf.errors import ConfigError

LITE0 = ("efficientnet_lite0", "DEFAULT")


@pytest.fixture
def tiny_cnn(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_cnn(monkeypatch)


@pytest.fixture(scope="module")
def frames_THWC() -> Frames:
    return reference_photos(224)


def test_openvino_gives_torchs_features(lite0_model: OpenVinoModel, lite0_state: State, frames_THWC: Frames) -> None:
    network = cnn_module.build(resolve(*LITE0), lite0_state, "cpu")
    cnn = openvino_engine.load(lite0_model, *LITE0, "fp32")
    assert cnn.name == "openvino fp32"
    np.testing.assert_allclose(cnn(frames_THWC), network(torch.from_numpy(frames_THWC)).numpy(), atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frames_features_do_not_depend_on_its_neighbours(
    lite0_model: OpenVinoModel, frames_THWC: Frames, precision: str
) -> None:
    cnn = openvino_engine.load(lite0_model, *LITE0, precision)
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
def test_auto_uses_bf16_where_it_agrees_with_fp32(
    lite0_model: OpenVinoModel, monkeypatch: pytest.MonkeyPatch, noise: float, chosen: str
) -> None:
    exact_TD = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    rough_TD = exact_TD + noise * np.random.default_rng(1).normal(size=(8, 100)).astype(np.float32)

    def fake(network: OpenVinoModel, precision: str) -> Engine:
        return Engine(name=f"openvino {precision}", run=lambda frames_THWC: rough_TD)

    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: True)
    monkeypatch.setattr(openvino_engine, "openvino_engine", fake)
    network = replace(lite0_model, probed_TD=exact_TD)
    assert openvino_engine.load(network, *LITE0, "auto").name == chosen


@pytest.mark.parametrize(("has_bf16", "warnings"), [(True, 0), (False, 1)])
def test_bf16_without_instructions_for_it_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    tiny_cnn: None,
    capsys: pytest.CaptureFixture[str],
    has_bf16: bool,
    warnings: int,
) -> None:
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: has_bf16)
    converted = openvino_convert.convert(resolve(*TINY), load_weights(*TINY))
    assert openvino_engine.load(converted, *TINY, "bf16").name == "openvino bf16"
    assert capsys.readouterr().err.count("--precision bf16: this processor has no bf16 instructions") == warnings


def test_auto_uses_a_precision_that_this_processor_has_and_that_agrees_with_fp32(
    lite0_model: OpenVinoModel, frames_THWC: Frames
) -> None:
    exact_TD = openvino_engine.load(lite0_model, *LITE0, "fp32")(frames_THWC)
    cnn = openvino_engine.load(lite0_model, *LITE0, "auto")
    assert cnn.name in ("openvino bf16", "openvino fp32")
    assert agreement(cnn(frames_THWC), exact_TD) >= 0.99


def test_the_reference_photos_are_photographs_and_flat_pictures(frames_THWC: Frames) -> None:
    assert frames_THWC.shape == (8, 224, 224, 3)
    levels = [len(np.unique(frame)) for frame in frames_THWC]
    assert min(levels[:4]) > 100
    assert max(levels[4:]) <= 4


def test_torch_runs_what_is_not_converted(lite0_state: State, frames_THWC: Frames) -> None:
    load = partial(torch_engine.load, resolve(*LITE0), lite0_state, "cpu")
    exact, half = load("auto"), load("bf16")
    assert (exact.name, half.name) == ("torch cpu fp32", "torch cpu bf16")
    assert 0.9 < agreement(half(frames_THWC), exact(frames_THWC)) < 1


@pytest.mark.parametrize(("name", "weights"), [LITE0, ("resnet50", "random"), ("efficientnet_v2_s", "random")])
def test_batch_norms_are_folded_into_convolutions(name: str, weights: str) -> None:
    network = cnn_module.build(resolve(name, weights), load_weights(name, weights), "cpu")
    frames_THWC = reference_photos(64)[:2]  # at full size the layers are the same
    exact_TD = torch_engine.eager(network)(frames_THWC)
    network.trunk = torch_engine.folded(network.trunk)
    np.testing.assert_allclose(torch_engine.eager(network)(frames_THWC), exact_TD, rtol=1e-3, atol=1e-4)
    num_batch_norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.trunk.modules())
    # Torch's tracer does not see EfficientNet-Lite0's convolutions as modules, so its batch norms stay.
    assert num_batch_norms == (49 if name == LITE0[0] else 0)


def test_on_a_gpu_weights_are_bf16_and_the_frames_normalised_in_fp32(lite0_state: State, frames_THWC: Frames) -> None:
    network = cnn_module.build(resolve(*LITE0), lite0_state, "cpu")
    half = torch_engine.in_bf16(network)
    assert {parameter.dtype for parameter in half.trunk.parameters()} == {torch.bfloat16}
    assert (half.scale.dtype, network.dtype, half.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert 0.99 < agreement(torch_engine.eager(half)(frames_THWC), torch_engine.eager(network)(frames_THWC)) < 1


@pytest.mark.parametrize(
    ("precision", "has_bf16", "rough", "chosen", "convolutions"),
    [
        ("fp32", True, [], "fp32", "ieee"),
        ("bf16", True, [], "bf16", "none"),
        ("auto", True, [], "bf16", "none"),
        ("auto", True, ["none"], "tf32", "tf32"),
        ("auto", True, ["none", "tf32"], "fp32", "ieee"),
        ("auto", False, [], "fp32", "ieee"),
    ],
)
def test_a_gpu_takes_the_fastest_precision_that_agrees_with_ieee_fp32(
    monkeypatch: pytest.MonkeyPatch,
    tiny_cnn: None,
    frames_THWC: Frames,
    precision: str,
    has_bf16: bool,
    rough: list[str],
    chosen: str,
    convolutions: str,
) -> None:
    exact_TD = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    rough_TD = np.random.default_rng(1).normal(size=(8, 100)).astype(np.float32)
    engines: list[tuple[torch.dtype, str]] = []

    class OnGpu:
        def __init__(self, network: Backbone, convolutions: str) -> None:
            engines.append((network.dtype, convolutions))
            self._features_TD = rough_TD if convolutions in rough else exact_TD

        def __call__(self, frames_THWC: Frames) -> np.ndarray:
            return self._features_TD

    build = cnn_module.build
    monkeypatch.setattr(torch_engine, "OnGpu", OnGpu)
    monkeypatch.setattr(torch_engine, "build", lambda *arguments: build(*arguments[:2], "cpu"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    cnn = torch_engine.load(resolve(*TINY), load_weights(*TINY), "cuda", precision)
    assert cnn.name == f"torch cuda {chosen}"
    used = engines[0] if precision == "auto" and chosen == "fp32" else engines[-1]
    assert used == (torch.bfloat16 if chosen == "bf16" else torch.float32, convolutions)


def test_convolutions_are_in_tf32_only_inside_the_context() -> None:
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    settings = []
    for precision in ("ieee", "tf32"):
        with torch_engine.convolutions_in(precision):
            settings.append(convolutions.fp32_precision)
    assert (settings, convolutions.fp32_precision) == (["ieee", "tf32"], before)


def test_the_batch_size_is_halved_for_good_where_memory_runs_out(frames_THWC: Frames) -> None:
    batch_sizes: list[int] = []
    freed: list[bool] = []

    def run(frames_THWC: Frames, num_frames: int) -> np.ndarray:
        batch_sizes.append(num_frames)
        if num_frames > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")
        return np.full((len(frames_THWC), 2), num_frames, np.float32)

    halving = Halving(run, 128, lambda: freed.append(True))
    assert halving(frames_THWC)[0].tolist() == [32, 32]
    assert halving(frames_THWC)[0].tolist() == [32, 32]
    assert (batch_sizes, len(freed)) == ([128, 64, 32, 32], 2)


def test_a_share_of_a_gpu_that_does_not_hold_one_frame_is_refused(
    monkeypatch: pytest.MonkeyPatch, frames_THWC: Frames
) -> None:
    def run(*arguments: object) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    rule = r"--gpus-per-cnn-worker \(--gpus of serve\) must be a larger share of a GPU: .* \(CUDA out of memory\. Tried"
    with pytest.raises(ConfigError, match=rule):
        Halving(run, 128, lambda: None)(frames_THWC)
    monkeypatch.setattr(torch_engine, "build", run)
    with pytest.raises(ConfigError, match=rule):
        torch_engine.load(resolve(*LITE0), {}, "cuda", "auto")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_gpu_gives_the_cpus_features(lite0_model: OpenVinoModel, frames_THWC: Frames, precision: str) -> None:
    state = load_weights(*LITE0)
    many = np.concatenate([frames_THWC, frames_THWC[::-1]] * 20)  # 320 frames: 128, 128 and 64
    cnn = torch_engine.load(resolve(*LITE0), state, "cuda", precision)
    exact_TD = openvino_engine.load(lite0_model, *LITE0, "fp32")(many)
    assert cnn.name == f"torch cuda {'fp32' if precision == 'fp32' else 'bf16'}"
    assert agreement(cnn.run(many), exact_TD) > (0.9999 if precision == "fp32" else 0.99)


@pytest.mark.gpu
def test_a_gpu_with_little_memory_gives_the_same_features_in_smaller_batches(frames_THWC: Frames) -> None:
    cnn = torch_engine.load(resolve(*LITE0), load_weights(*LITE0), "cuda", "fp32")
    many = np.concatenate([frames_THWC] * 32)
    exact_TD = cnn.run(many)
    torch.cuda.empty_cache()
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    # 128 frames are 77 MB in float32 before the first layer.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * 2**20) / total_bytes, 0)
    try:
        few_TD = cnn.run(many)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert isinstance(cnn.run, torch_engine.OnGpu)
    assert 1 <= cnn.run.frames_per_batch < 128
    assert agreement(few_TD, exact_TD) > 0.9999


def test_a_worker_that_decodes_and_embeds_does_without_torch() -> None:
    code = (
        "import sys, vidclf.pipeline.embed_stage; from vidclf.backbones import openvino_engine; "
        "openvino_engine.openvino(); print({0})"
    )
    loaded = "[name for name in ('torch', 'torchvision', 'sklearn') if name in sys.modules]"
    done = subprocess.run([sys.executable, "-c", code.format(loaded)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_conversion_that_computes_other_features_is_refused(monkeypatch: pytest.MonkeyPatch, tiny_cnn: None) -> None:
    monkeypatch.setattr(openvino_convert, "agreement", lambda some_TD, reference_TD: 0.5)
    with pytest.raises(ConversionError, match=r"differ from torch's: mean cosine 0\.50000, must be at least 0\.9999"):
        openvino_convert.convert(resolve(*TINY), load_weights(*TINY))


def test_a_conversion_without_openvino_names_the_missing_package(
    monkeypatch: pytest.MonkeyPatch, tiny_cnn: None
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConversionError, match="openvino"):
        openvino_convert.convert(resolve(*TINY), load_weights(*TINY))


def test_openvino_runs_without_its_telemetry() -> None:
    code = (
        "import sys; from vidclf.backbones import openvino_engine; openvino_engine.openvino(); "
        "import openvino.tools.ovc;"
        "print(sys.modules['openvino_telemetry'], openvino.tools.ovc.telemetry.__class__.__module__)"
    )
    stdout = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert stdout.split() == ["None", "openvino.tools.ovc.telemetry_stub"]
