"""Backbones of timm (PyTorch Image Models), by name, or from a directory or repository in timm's own form.

The features are those of `timm.create_model(..., num_classes=0)`: pooled, before the classification layer.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.checkpoint_files import (
    WEIGHTS_FILES,
    CheckpointFiles,
    Repository,
    read_config,
    require_extra,
    stated_licence,
)
from vidclf.backbones.frame_settings import preprocessing_of_timm
from vidclf.errors import ConfigError
from vidclf.json_text import json_text

_DECISIVE = ("input_size", "fixed_input_size", "num_classes", "global_pool", "pool_size", "first_conv", "classifier")
"""Entries of timm's `pretrained_cfg` that may decide the structure of the network."""

NUM_NEAR = 5
"""Largest number of known names that the refusal of an unknown name lists."""


def named(name: str, weights: str) -> BackboneModel:
    """Return the description of `timm/NAME[.TAG]`: architecture and preprocessing come from timm itself.

    With `weights` `DEFAULT` the weights come from the Hugging Face Hub or its cache; otherwise no network is asked.
    Raises ConfigError for an unknown name, and if the weights cannot be had.
    """
    require_extra(name, "timm")
    import timm

    timm_name = name.removeprefix("timm/")
    architecture = timm_name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ConfigError(f"--backbone {name}: timm has no such model{near_text(timm_name, timm.list_models())}")
    try:
        found = timm.get_pretrained_cfg(timm_name)
    except RuntimeError as error:
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        raise ConfigError(f"--backbone {name}: timm has no such weights of {architecture}; it has {tags}") from error
    published = found.to_dict() if found is not None else {}
    files = None
    if weights == "DEFAULT":
        if not published.get("hf_hub_id"):
            raise ConfigError(
                f"--backbone {name}: timm publishes its weights at {published.get('url') or 'no address'}, not on the "
                "Hugging Face Hub; fetch them and give the file as --weights"
            )
        files = Repository(name=name, id=published["hf_hub_id"])
    return _described(name, weights, architecture, {}, published, files)


def from_files(name: str, weights: str, files: CheckpointFiles) -> BackboneModel:
    """Return the description of a backbone whose `config.json`, in timm's form, is among `files`.

    Raises ConfigError if it is not in timm's form, or if the weights cannot be had and `weights` is `DEFAULT`.
    """
    require_extra(name, "timm")
    import timm

    config = read_config(name, files.find(["config.json"]))
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise ConfigError(
            f"--backbone {name}: its config.json names no `architecture` of timm (it may be a model of the library "
            "transformers); export the image network as ONNX, and give --backbone onnx:FILE"
        )
    if not timm.is_model(architecture):
        raise ConfigError(
            f"--backbone {name}: timm has no {architecture!r}{near_text(architecture, timm.list_models())}"
        )
    published = {**config.get("pretrained_cfg", config)}
    if "num_classes" in config:
        published["num_classes"] = config["num_classes"]
    return _described(name, weights, architecture, config.get("model_args") or {}, published, files)


def _described(
    name: str,
    weights: str,
    architecture: str,
    model_args: dict[str, Any],
    published: dict[str, Any],
    files: CheckpointFiles | None,
) -> BackboneModel:
    """Return the description of a network of timm.

    `published`: timm's `pretrained_cfg` of the weights. `files`: the place with the weights; None if nothing is read
    from there.
    """
    checkpoint = None
    if files is not None and weights == "DEFAULT":
        own = published.get("hf_hub_filename")
        checkpoint = files.find([own] if own and isinstance(files, Repository) else WEIGHTS_FILES)
    decisive = {key: published[key] for key in _DECISIVE if published.get(key) is not None}
    arguments = json.loads(json_text({"model_args": model_args, "pretrained_cfg": decisive}))
    preprocessing = preprocessing_of_timm(name, published)
    side = preprocessing.transform.crop_size
    licence = published.get("license") or (stated_licence(files.card()) if files is not None else None)
    return BackboneModel(
        name=name,
        weights=weights,
        library="timm",
        architecture=architecture,
        arguments=arguments,
        feature_dim=feature_dim(name, side, lambda: build(architecture, arguments)),
        preprocessing=preprocessing,
        revision=files.revision if files is not None else None,
        licence=licence,
        checkpoint=checkpoint,
    )


def build(architecture: str, arguments: Mapping[str, Any], num_classes: int = 0) -> nn.Module:
    """Return the untrained network. Without `num_classes` it has no classification layer, and gives the features."""
    import timm

    published = {**arguments["pretrained_cfg"], "architecture": architecture}
    own = {**arguments["model_args"], "num_classes": num_classes}
    network: nn.Module = timm.create_model(architecture, pretrained=False, pretrained_cfg=published, **own)
    return network


def without_classifier(model: BackboneModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under the names of the network without those of its classification layer.

    A checkpoint of another program than timm is converted by the network's own function `checkpoint_filter_fn`.
    """
    arguments = model.arguments
    num_classes = arguments["model_args"].get("num_classes") or arguments["pretrained_cfg"].get("num_classes") or 1000
    with torch.device("meta"):
        trunk = build(model.architecture, arguments)
        whole = build(model.architecture, arguments, num_classes=num_classes)
    expected = trunk.state_dict().keys()
    if not expected <= state.keys():
        convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
        state = convert(state, trunk) if convert is not None else state
    classifier = whole.state_dict().keys() - expected
    return {key: value for key, value in state.items() if key not in classifier}


def feature_dim(name: str, side: int, make: Callable[[], nn.Module]) -> int:
    """Return the number of features per frame of the network that `make` returns, without computing any.

    `side`: height and width of the frames. Raises ConfigError if the network cannot be made, does not take such frames,
    or does not give one vector per frame.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            shape = tuple(make().eval()(torch.zeros(1, 3, side, side)).shape)
    except Exception as error:  # arguments of a file that do not fit raise errors of many types
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"--backbone {name}: its network cannot be built for frames of {side} × {side} pixels "
            f"({type(error).__name__}: {reason})"
        ) from error
    if len(shape) != 2:
        raise ConfigError(f"--backbone {name}: must give one vector per frame, gives an array of shape {shape}")
    return int(shape[1])


def near_text(name: str, known: list[str]) -> str:
    """Return the end of a refusal of `name`: the known names that are nearest to it; empty if none is near."""
    near = difflib.get_close_matches(name, known, NUM_NEAR, cutoff=0.5)
    return f"; near are {', '.join(near)}" if near else ""
