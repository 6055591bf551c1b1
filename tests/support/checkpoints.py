"""Small random networks, written to disk in the forms in which backbones are published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
"""Arguments of timm that make a tiny vision transformer of `vit_tiny_patch16_224`."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_timm(
    folder: Path, architecture: str = "vit_tiny_patch16_224", model_args: dict[str, Any] = VIT, **published: Any
) -> Path:
    """Write a directory in timm's form: `config.json` and `model.safetensors`, with a classification layer."""
    import timm

    folder.mkdir(parents=True)
    torch.manual_seed(1)
    network = timm.create_model(architecture, num_classes=10, **model_args)
    stated = {
        "input_size": [3, 32, 32],
        "fixed_input_size": "img_size" in model_args,
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.3, 0.2, 0.25],
        "num_classes": 10,
        "license": "cc-by-nc-4.0",
        **published,
    }
    config = {"architecture": architecture, "num_classes": 10, "model_args": model_args, "pretrained_cfg": stated}
    (folder / "config.json").write_text(json.dumps(config))
    # In random networks a frame hardly changes the features; larger weights make them differ.
    state = {key: 3 * value if value.ndim > 1 else value for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, str(folder / "model.safetensors"))
    return folder


def write_open_clip(folder: Path, vocab_size: int = 100, context_length: int = 8, **preprocess: Any) -> Path:
    """Write a directory in open_clip's form: `open_clip_config.json` and the weights of both towers.

    open_clip's own tokenizer, which such a configuration names by naming no other, has 49,408 words.
    """
    import open_clip

    folder.mkdir(parents=True)
    config = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": context_length, "vocab_size": vocab_size, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(1)
    state = open_clip.CLIP(**json.loads(json.dumps(config))).state_dict()
    state = {key: 3 * value if value.ndim > 1 else value for key, value in state.items()}
    safetensors.torch.save_file(state, str(folder / "open_clip_model.safetensors"))
    values = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25], **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(values))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A tiny network\n")
    return folder


def put_into_hub_cache(home: Path, repository: str, folder: Path, commit: str = COMMIT) -> None:
    """Put a directory into the Hugging Face Hub's cache at `home`, as branch `main` of `repository`."""
    place = home / "hub" / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)


def write_onnx(file: Path, side: int = 32, batch: int | str = "N") -> tuple[np.ndarray, np.ndarray]:
    """Write a network of one convolution, the mean over all places, and a ReLU, with its preprocessing beside it.

    Returns the convolution's kernels [D, 3, 4, 4] and biases [D].
    """
    from onnx import TensorProto, helper, numpy_helper, save

    generator = np.random.default_rng(0)
    kernels = generator.normal(size=(7, 3, 4, 4)).astype(np.float32)
    biases = generator.normal(size=7).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "kernels", "biases"], ["maps"], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 7])],
        [numpy_helper.from_array(kernels, "kernels"), numpy_helper.from_array(biases, "biases")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    stated = {"input_size": [3, side, side], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    Path(f"{file}.json").write_text(json.dumps({**stated, "mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25]}))
    return kernels, biases
