"""`BackboneModel`, the full description of a backbone (image network), and the forms of its name.

A job makes the description once (`resolve`), and its workers build the network from it. The module does not load torch,
because code that only reads or writes features needs to know no more of a backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidclf.backbones.catalog import FEATURE_DIMS, LITE, Preprocessing, preprocessing

FORMS = {
    "timm/": "timm/NAME[.TAG]",
    "hf-hub:": "hf-hub:ORG/NAME[@REVISION]",
    "local-dir:": "local-dir:DIR",
    "open_clip/": "open_clip/MODEL:TAG",
    "onnx:": "onnx:FILE",
}
"""Beginnings of the names of backbones that are not in the catalog, each with the whole form."""

_PLACES = ("local-dir:", "onnx:")
"""Beginnings of names that hold the place of a file or directory."""


@dataclass(frozen=True, kw_only=True)
class BackboneModel:
    """A backbone (image network) with all that a worker needs to build it, except its weights."""

    name: str
    """the value of `--backbone`; a place of files in it is absolute"""
    weights: str
    """the value of `--weights`: DEFAULT, random, a name, a file or a URI"""
    library: str
    """what builds the network: torchvision, efficientnet_lite, timm, open_clip or onnx (OpenVINO)"""
    architecture: str
    """name of the network in its library"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """further arguments with which the library builds the network, as plain JSON values"""
    feature_dim: int
    """number of features per frame"""
    preprocessing: Preprocessing
    """scaling, cropping and normalisation of frames"""
    revision: str | None = None
    """commit of the repository on the Hugging Face Hub; None for other sources"""
    licence: str | None = None
    """licence of the weights that their card or their library states; None if none is stated"""
    checkpoint: str | None = None
    """file or URI of the published weights (`DEFAULT`); None where the library finds them by name"""

    @property
    def label(self) -> str:
        """The name without the directories of a file, for texts and keys: it stays when files move."""
        return short_name(self.name)

    @property
    def side(self) -> int:
        """Height and width of a frame in pixels, as the network takes it."""
        return self.preprocessing.transform.crop_size

    def network(self) -> dict[str, Any] | None:
        """Everything that decides the features beside weights and preprocessing, and the licence, as plain JSON values.

        None for a backbone of the catalog, whose name says it all.
        """
        if self.name in FEATURE_DIMS:
            return None
        return {
            "library": self.library,
            "architecture": self.architecture,
            "arguments": dict(self.arguments),
            "feature_dim": self.feature_dim,
            "revision": self.revision,
            "licence": self.licence,
        }


def catalog_model(name: str, weights: str) -> BackboneModel:
    """Return the description of a backbone of the catalog. `weights`: the value of `--weights`."""
    return BackboneModel(
        name=name,
        weights=weights,
        library="efficientnet_lite" if name in LITE else "torchvision",
        architecture=name,
        feature_dim=FEATURE_DIMS[name],
        preprocessing=preprocessing(name, weights),
    )


def form_of(name: str) -> str | None:
    """Return the beginning of a backbone's name that says where it comes from, a key of `FORMS`; None without one."""
    return next((form for form in FORMS if name.startswith(form) and len(name) > len(form)), None)


def short_name(name: str) -> str:
    """Return a backbone's name without the directories of a file: `local-dir:/models/vit` becomes `local-dir:vit`."""
    form = form_of(name)
    if form not in _PLACES:
        return name
    return form + name.removeprefix(form).rstrip("/").rsplit("/", 1)[-1]


def directory_name(name: str) -> str:
    """Return the name of the directory for a backbone's features in the output of a job with several backbones.

    Every character that is not a letter, a digit, `.`, `_` or `-` becomes `_`.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", short_name(name))
