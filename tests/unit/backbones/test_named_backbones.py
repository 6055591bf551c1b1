"""Backbones of other libraries: features and preprocessing are those of the library, and no network is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.support.checkpoints import COMMIT, put_into_hub_cache, write_onnx, write_open_clip, write_timm
from tests.support.no_network import forbid_network
from vidclf import extras, installation
from vidclf.backbones import checkpoint_files, openvino_engine, torch_engine
from vidclf.backbones.agreement import Features, agreement, reference_photos
from vidclf.backbones.backbone_model import BackboneModel, directory_name, short_name
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import read_weights, weights_digest
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.runs.output_allowlist import is_backbone
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.sampling import SamplingPlan

SIZES = [(64, 64), (90, 160), (160, 90), (35, 61), (20, 500)]
"""Heights and widths of frames: square, landscape, portrait, smaller than the scaled size, and very wide."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forbid_network(monkeypatch, tmp_path)


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def refusal(name: str, weights: str = "DEFAULT") -> str:
    with pytest.raises(ConfigError) as error:
        read_weights(resolve(name, weights))
    assert "\n" not in str(error.value)
    return str(error.value)


def engines(model: BackboneModel) -> tuple[Features, Features]:
    """The features of the reference photos in torch and in OpenVINO, both in fp32."""
    photos, state = reference_photos(model.side), read_weights(model)
    converted = openvino_engine.load(convert(model, state), model.label, model.weights, "fp32")
    return torch_engine.load(model, state, "cpu", "fp32")(photos), converted(photos)


def key(model: BackboneModel) -> str:
    return FeatureSpec.of_model(model, weights_digest(read_weights(model)), SamplingPlan(num_frames=4)).key


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}),
        ("resnet10t", {}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_features_of_a_timm_directory_are_those_of_timm(
    tmp_path: Path, architecture: str, model_args: dict[str, int]
) -> None:
    import timm

    folder = write_timm(tmp_path / "net", architecture, model_args)
    model = resolve(f"local-dir:{folder}", "DEFAULT")
    in_torch_TD, in_openvino_TD = engines(model)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    network.reset_classifier(0)
    x = torch.from_numpy(reference_photos(32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.5, 0.4, 0.3], [0.3, 0.2, 0.25]))
    with torch.inference_mode():
        expected_TD = network((x - mean) / std).numpy()
    assert in_torch_TD.shape == expected_TD.shape == (8, model.feature_dim)
    assert round(agreement(in_torch_TD, expected_TD), 4) == 1.0
    assert round(agreement(in_openvino_TD, expected_TD), 4) == 1.0
    assert (model.licence, model.revision, model.label) == ("cc-by-nc-4.0", None, "local-dir:net")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_preprocessing_is_that_of_timm_to_one_grey_level(
    tmp_path: Path, crop_mode: str, crop_pct: float, interpolation: str
) -> None:
    import timm

    folder = write_timm(tmp_path / "net", crop_mode=crop_mode, crop_pct=crop_pct, interpolation=interpolation)
    transform = resolve(f"local-dir:{folder}", "DEFAULT").preprocessing.transform
    network = timm.create_model(f"local-dir:{folder}")
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    mean, std = (np.array(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.3, 0.2, 0.25]))
    for height, width in SIZES:
        picture = frame(height, width)
        expected = (255 * (theirs(Image.fromarray(picture)).numpy() * std + mean)).round().transpose(1, 2, 0)
        assert transform(picture).shape == (32, 32, 3)
        assert np.abs(transform(picture).astype(int) - expected).max() <= 1, (height, width)


def test_a_repository_in_the_cache_needs_no_network_and_its_revision_is_in_the_key(tmp_path: Path) -> None:
    first = write_timm(tmp_path / "first")
    put_into_hub_cache(tmp_path / "hf", "org/net", first)
    model = resolve("hf-hub:org/net", "DEFAULT")
    assert (model.revision, model.feature_dim) == (COMMIT, 24)
    other = "f" * 40
    put_into_hub_cache(tmp_path / "hf", "org/net", first, commit=other)
    second = resolve(f"hf-hub:org/net@{COMMIT}", "DEFAULT")
    assert second.revision == COMMIT
    third = resolve("hf-hub:org/net", "DEFAULT")
    assert third.revision == other
    assert len({key(model), key(third)}) == 2
    assert key(replace(model, revision=None)) != key(model)


def test_a_directory_that_moves_keeps_its_key_and_other_weights_change_it(tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "a" / "net")
    before = key(resolve(f"local-dir:{folder}", "DEFAULT"))
    (tmp_path / "b").mkdir()
    moved = folder.rename(tmp_path / "b" / "net")
    assert key(resolve(f"local-dir:{moved}", "DEFAULT")) == before
    assert key(resolve(f"local-dir:{moved}", "random")) != before
    spec = FeatureSpec.of_model(resolve(f"local-dir:{moved}", "random"), "0", SamplingPlan())
    assert FeatureSpec(**json.loads(json.dumps(spec.as_json()))) == spec
    assert (spec.feature_dim, spec.licence) == (24, "cc-by-nc-4.0")
    assert spec.network is not None
    assert replace(spec, network={**spec.network, "licence": None}).key == spec.key


def test_random_weights_of_a_name_of_timm_need_no_network() -> None:
    model = resolve("timm/resnet10t.c3_in1k", "random")
    assert (model.feature_dim, model.revision, model.licence) == (512, None, "apache-2.0")
    assert model.preprocessing.transform == FrameTransform(resize_size=201, crop_size=176, interpolation="bicubic")


def test_a_file_takes_the_place_of_the_published_weights(tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "net")
    file = str((folder / "model.safetensors").rename(tmp_path / "other.safetensors"))
    assert refusal(f"local-dir:{folder}") == (
        f"--backbone local-dir:{folder}: must be a directory with model.safetensors or pytorch_model.bin"
    )
    assert len(read_weights(resolve(f"local-dir:{folder}", file))) == 30


def test_an_unknown_name_lists_near_ones() -> None:
    assert refusal("timm/vit_tiny_patch16_225") == (
        "--backbone timm/vit_tiny_patch16_225: timm has no such model; near are vit_tiny_patch16_224, "
        "deit_tiny_patch16_224, vit_tiny_patch16_384, vit_giant_patch14_224, eva02_tiny_patch14_224"
    )
    assert refusal("timm/resnet10t.in21k") == (
        "--backbone timm/resnet10t.in21k: timm has no such weights of resnet10t; it has ['resnet10t.c3_in1k']"
    )


def test_without_network_and_cache_one_line_says_how_to_bring_the_weights(tmp_path: Path) -> None:
    message = refusal("timm/resnet10t.c3_in1k")
    cache = tmp_path / "hf" / "hub"
    assert message.startswith(
        f"--backbone timm/resnet10t.c3_in1k: pytorch_model.bin of timm/resnet10t.c3_in1k is not in {cache} and could "
        "not be downloaded ("
    )
    assert message.endswith(
        "where there is a network, run `hf download timm/resnet10t.c3_in1k --local-dir DIR`, copy DIR here, and give "
        "--backbone local-dir:DIR"
    )
    assert "config.json of org/none is not in" in refusal("hf-hub:org/none")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    monkeypatch.setattr(installation, "is_installed", lambda: True)
    for name, extra in (("timm/resnet10t", "timm"), ("hf-hub:a/b", "timm"), ("open_clip/ViT-B-32:openai", "open_clip")):
        message = refusal(name)
        assert message.startswith(f"--backbone {name} needs packages that are not installed (")
        assert message.endswith(f"timm, huggingface_hub): pip install 'vidclf[{extra}]'")


def test_a_model_of_another_library_is_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["ViTModel"], "model_type": "vit"}')
    assert refusal(f"local-dir:{folder}").endswith("export the image network as ONNX, and give --backbone onnx:FILE")


def test_arguments_that_do_not_fit_are_one_clear_line(tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["depht"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    message = refusal(f"local-dir:{folder}")
    assert "its network cannot be built for frames of 32 × 32 pixels (TypeError: " in message
    assert "'depht'" in message


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_features_and_preprocessing_of_open_clip(tmp_path: Path, resize_mode: str) -> None:
    import open_clip

    folder = write_open_clip(tmp_path / "clip", resize_mode=resize_mode, fill_color=90)
    model = resolve(f"local-dir:{folder}", "DEFAULT")
    assert (model.library, model.feature_dim, model.licence) == ("open_clip", 16, "mit")
    network, theirs = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    mean, std = (np.array(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.3, 0.2, 0.25]))
    for height, width in SIZES:
        picture = frame(height, width)
        expected = (255 * (theirs(Image.fromarray(picture)).numpy() * std + mean)).round().transpose(1, 2, 0)
        assert np.abs(model.preprocessing.transform(picture).astype(int) - expected).max() <= 1, (height, width)
    if resize_mode == "shortest":
        in_torch_TD, in_openvino_TD = engines(model)
        x = torch.from_numpy(((reference_photos(32) / 255).transpose(0, 3, 1, 2) - mean) / std).float()
        with torch.inference_mode():
            expected_TD = network.eval().encode_image(x).numpy()
        assert round(agreement(in_torch_TD, expected_TD), 4) == 1.0
        assert round(agreement(in_openvino_TD, expected_TD), 4) == 1.0


def test_names_of_open_clip() -> None:
    assert refusal("open_clip/ViT-B-33:openai").startswith(
        "--backbone open_clip/ViT-B-33:openai: open_clip has no such model; near are ViT-B-32"
    )
    assert "must have one of the tags ['openai', 'yfcc15m', 'cc12m'] of RN50" in refusal("open_clip/RN50:laion2b")
    model = resolve("open_clip/RN50-quickgelu:openai", "random")
    assert (model.library, model.feature_dim, model.side) == ("open_clip", 1024, 224)
    assert "--local-dir DIR" in refusal("open_clip/RN50-quickgelu:openai")


def test_weights_are_not_loaded_into_a_model_with_another_activation() -> None:
    assert refusal("open_clip/ViT-B-32:openai") == (
        "--backbone open_clip/ViT-B-32:openai: the weights openai were trained with the activation QuickGELU, which "
        "ViT-B-32 does not have; give open_clip/ViT-B-32-quickgelu:openai"
    )
    assert resolve("open_clip/ViT-B-32-quickgelu:openai", "random").arguments["quick_gelu"] is True


def test_features_of_an_onnx_file_are_those_of_its_operators(tmp_path: Path) -> None:
    kernels, biases = write_onnx(tmp_path / "net.onnx")
    model = resolve(f"onnx:{tmp_path}/net.onnx", "DEFAULT")
    assert (model.feature_dim, model.label) == (7, "onnx:net.onnx")
    assert model.preprocessing.transform == FrameTransform(
        resize_size=32, crop_size=32, interpolation="bilinear", crop_mode="squash"
    )
    state = read_weights(model)
    photos = reference_photos(32)
    features_TD = openvino_engine.load(convert(model, state), model.label, "DEFAULT", "fp32")(photos)
    x = (photos / 255 - [0.5, 0.4, 0.3]) / [0.3, 0.2, 0.25]
    patches = x.reshape(8, 8, 4, 8, 4, 3).transpose(0, 1, 3, 5, 2, 4).reshape(8, 64, 48)
    expected_TD = np.maximum(patches @ kernels.reshape(7, 48).T + biases, 0).mean(axis=1)
    np.testing.assert_allclose(features_TD, expected_TD, rtol=1e-4, atol=1e-4)


def test_an_onnx_file_for_one_frame_at_a_time_takes_several(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx", batch=1)
    model = resolve(f"onnx:{tmp_path}/net.onnx", "DEFAULT")
    assert convert(model, read_weights(model)).probed_TD.shape == (8, 7)


def test_refusals_of_onnx_files(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx")
    name = f"onnx:{tmp_path}/net.onnx"
    assert "an ONNX file has its own weights" in refusal(name, "random")
    (tmp_path / "net.onnx.json").unlink()
    assert refusal(name) == (
        f"--backbone {name}: needs its preprocessing beside it, in {tmp_path}/net.onnx.json or "
        f"{tmp_path}/preprocessor_config.json"
    )
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_resize": True,
                "size": {"shortest_edge": 36},
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            }
        )
    )
    assert resolve(name, "DEFAULT").preprocessing.transform == FrameTransform(
        resize_size=36, crop_size=32, interpolation="bicubic"
    )
    (tmp_path / "net.onnx").write_bytes(b"no ONNX")
    assert "OpenVINO cannot read the ONNX file" in refusal(name)


def test_names_without_directories() -> None:
    assert short_name("local-dir:/models/vit/") == "local-dir:vit"
    assert short_name("onnx:s3://bucket/nets/a.onnx") == "onnx:a.onnx"
    assert short_name("hf-hub:org/net@main") == "hf-hub:org/net@main"
    assert directory_name("hf-hub:org/net@main") == "hf-hub_org_net_main"
    assert directory_name("timm/vit_tiny_patch16_224.augreg") == "timm_vit_tiny_patch16_224.augreg"
    assert is_backbone("hf-hub_org_net_main")
    assert is_backbone("resnet50")
    assert not is_backbone("my_resnet50")


def test_the_licence_of_a_model_card() -> None:
    assert checkpoint_files.stated_licence("---\ntags:\n- a\nlicense: apache-2.0\n---\n# Net\n") == "apache-2.0"
    assert checkpoint_files.stated_licence("---\nlicense: other\nlicense_name: dinov3\n---\n") == "dinov3"
    assert checkpoint_files.stated_licence("# Net\nlicense: mit\n") is None
