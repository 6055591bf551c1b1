"""Resolution of the flags `--backbone` and `--weights` into a `BackboneModel`, once per job and before any work."""

from __future__ import annotations

from vidclf import storage
from vidclf.backbones.backbone_model import FORMS, BackboneModel, catalog_model, form_of
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.backbones.checkpoint_files import CheckpointFiles, Repository, directory, require_extra
from vidclf.errors import ConfigError


def resolve(name: str, weights: str) -> BackboneModel:
    """Return the description of the backbone `name`, a value of `--backbone`.

    `weights`: the value of `--weights`. With `DEFAULT`, files that the Hugging Face Hub's cache lacks are downloaded.
    Raises ConfigError for an unknown name, for a package that is not installed, and for files that cannot be had.
    """
    if name in FEATURE_DIMS:
        return catalog_model(name, weights)
    form = form_of(name)
    rest = name.removeprefix(form or "")
    if form == "timm/":
        from vidclf.backbones import timm_models

        return timm_models.named(name, weights)
    if form == "open_clip/":
        from vidclf.backbones import open_clip_models

        return open_clip_models.named(name, weights)
    if form == "onnx:":
        from vidclf.backbones import onnx_models

        location = directory(name, storage.canonical(rest)).location
        return onnx_models.named(f"{form}{location}", weights, location)
    if form == "local-dir:":
        location = storage.canonical(rest)
        return _from_files(f"{form}{location}", weights, directory(name, location))
    if form == "hf-hub:":
        require_extra(name, "timm")
        repository, _, revision = rest.partition("@")
        return _from_files(name, weights, Repository(name=name, id=repository, revision=revision or None))
    raise ConfigError(f"--backbone must be one of {', '.join(FEATURE_DIMS)}, {', '.join(FORMS.values())}, got {name!r}")


def _from_files(name: str, weights: str, files: CheckpointFiles) -> BackboneModel:
    """Return the description of a backbone in the form of timm (`config.json`) or open_clip.

    A directory of open_clip may hold a `config.json` of another library too, so its own file is looked for first.
    """
    from vidclf.backbones import open_clip_models, timm_models

    if files.has(open_clip_models.CONFIG):
        return open_clip_models.from_files(name, weights, files)
    return timm_models.from_files(name, weights, files)
