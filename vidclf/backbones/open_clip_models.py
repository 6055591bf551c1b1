"""Image towers of open_clip's models: by name and tag, or from a directory or repository in open_clip's form.

The features are those of `model.encode_image`, not normalised. The text tower is left out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.checkpoint_files import (
    CheckpointFiles,
    Repository,
    read_config,
    require_extra,
    stated_licence,
)
from vidclf.backbones.frame_settings import preprocessing_of_open_clip
from vidclf.backbones.timm_models import feature_dim, near_text
from vidclf.errors import ConfigError
from vidclf.json_text import json_text

CONFIG = "open_clip_config.json"
"""Name of the configuration in a directory or repository of open_clip."""

WEIGHTS_FILES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("model.safetensors", "pytorch_model.bin"),
)
"""Names of the file with the weights, in the order in which open_clip tries them."""

_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""Configuration of a text tower that costs nothing, because it is left out."""

_VISUAL = "visual."
"""Beginning of the names of the image tower's tensors."""


def named(name: str, weights: str) -> BackboneModel:
    """Return the description of `open_clip/MODEL:TAG`.

    With `weights` `DEFAULT` the weights come from the Hugging Face Hub or its cache; otherwise no network is asked, and
    TAG only decides the preprocessing. Raises ConfigError for an unknown name or tag, and if the weights cannot be had.
    """
    require_extra(name, "open_clip")
    import open_clip

    architecture, _, tag = name.removeprefix("open_clip/").partition(":")
    config = open_clip.get_model_config(architecture) if architecture in open_clip.list_models() else None
    if config is None:
        near = near_text(architecture, open_clip.list_models())
        raise ConfigError(f"--backbone {name}: open_clip has no such model{near}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise ConfigError(f"--backbone {name}: MODEL:TAG must have one of the tags {tags} of {architecture}")
    published = open_clip.get_pretrained_cfg(architecture, tag)
    if published.get("quick_gelu", False) and not config.get("quick_gelu", False):
        # open_clip only warns, and computes other features than those that the weights were trained for.
        raise ConfigError(
            f"--backbone {name}: the weights {tag} were trained with the activation QuickGELU, which {architecture} "
            f"does not have; give open_clip/{architecture}-quickgelu:{tag}"
        )
    if weights != "DEFAULT":
        return _described(name, weights, architecture, config, published)
    # Either ORG/NAME/, with a file of a usual name, or ORG/NAME/FILE.
    organisation, repository, file = (*published.get("hf_hub", "").split("/", 2), "", "")[:3]
    if not repository:
        raise ConfigError(
            f"--backbone {name}: open_clip publishes its weights at {published.get('url') or 'no address'}, not on the "
            "Hugging Face Hub; fetch them and give the file as --weights"
        )
    files = Repository(name=name, id=f"{organisation}/{repository}")
    return _described(name, weights, architecture, config, published, files, [file] if file else WEIGHTS_FILES)


def from_files(name: str, weights: str, files: CheckpointFiles) -> BackboneModel:
    """Return the description of a backbone whose `open_clip_config.json` is among `files`.

    Raises ConfigError if it lacks the entries of open_clip, or if the weights cannot be had and `weights` is `DEFAULT`.
    """
    require_extra(name, "open_clip")
    config = read_config(name, files.find([CONFIG]))
    if "model_cfg" not in config:
        raise ConfigError(f"--backbone {name}: its {CONFIG} must have the entry model_cfg")
    return _described(name, weights, "CLIP", config["model_cfg"], config.get("preprocess_cfg", {}), files)


def _described(
    name: str,
    weights: str,
    architecture: str,
    config: Mapping[str, Any],
    published: Mapping[str, Any],
    files: CheckpointFiles | None = None,
    weights_files: Any = WEIGHTS_FILES,
) -> BackboneModel:
    """Return the description of an image tower.

    `config`: open_clip's `model_cfg`. `published`: the preprocessing that goes with the weights. `files`: the place of
    the weights; None if nothing is read from there.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    checkpoint = files.find(weights_files) if files is not None and weights == "DEFAULT" else None
    vision = copy.deepcopy(dict(config["vision_cfg"]))
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # else open_clip would download weights of the tower alone
    arguments = {"embed_dim": config["embed_dim"], "vision_cfg": vision, "quick_gelu": config.get("quick_gelu", False)}
    arguments = json.loads(json_text(arguments))
    stated = merge_preprocess_dict(asdict(PreprocessCfg()), dict(published))
    stated["size"] = vision.get("image_size", 224)
    preprocessing = preprocessing_of_open_clip(name, stated)
    side = preprocessing.transform.crop_size
    return BackboneModel(
        name=name,
        weights=weights,
        library="open_clip",
        architecture=architecture,
        arguments=arguments,
        feature_dim=feature_dim(name, side, lambda: build(arguments)),
        preprocessing=preprocessing,
        revision=files.revision if files is not None else None,
        licence=stated_licence(files.card()) if files is not None else None,
        checkpoint=checkpoint,
    )


def build(arguments: Mapping[str, Any]) -> nn.Module:
    """Return the untrained image tower."""
    import open_clip

    # Copied, because open_clip changes what it is given.
    whole = open_clip.CLIP(**copy.deepcopy(dict(arguments)), text_cfg=dict(_NO_TEXT))
    tower: nn.Module = whole.visual
    return tower


def image_tower(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the image tower among those of a checkpoint, under the tower's own names."""
    return {key.removeprefix(_VISUAL): value for key, value in state.items() if key.startswith(_VISUAL)} or state
