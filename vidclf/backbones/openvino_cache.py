"""Cache of backbones converted to OpenVINO, one per machine and user.

Without the cache every job would spend several seconds and load torch before its first video. The result of a
conversion depends only on the backbone, its weights, its preprocessing and the versions of the libraries. These
determine the name of the cached file. The cache is the directory `$VIDCLF_CACHE`, else `$XDG_CACHE_HOME/vidclf`, else
`~/.cache/vidclf`. A user without a home directory has no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from vidclf import storage
from vidclf.backbones.backbone_model import BackboneModel, directory_name
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_engine import OpenVinoModel
from vidclf.json_text import json_text

MAX_FILES = 8
"""Largest number of files in the cache; beyond this number the least recently used ones are deleted."""

VERSION = 1
"""Version of the function `openvino_convert.convert`, part of the cached files' names.

It must be raised when the result of a conversion changes.
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Input of a conversion to OpenVINO: all that its result depends on, except the versions of the libraries."""

    backbone: str
    weights_digest: str
    preprocessing: dict[str, Any]
    network: dict[str, Any] | None = None
    """structure of a backbone that is not in the catalog (`BackboneModel.network`)"""


def converted(source: Source, model: BackboneModel, state: State) -> OpenVinoModel:
    """Return the backbone of `source`, converted to OpenVINO: from the cache, or converted now and cached.

    `model`: its description, from which it is built. `state`: its weights. Raises ConversionError where OpenVINO
    cannot run the backbone.
    """
    found = cached(source)
    if found is not None:
        return found
    # Imported here, because a worker that finds the backbone in the cache needs no torch.
    import torch

    from vidclf.backbones.openvino_convert import convert

    torch.set_num_threads(1)
    network = convert(model, state)
    file = _file(source)
    # An 8-bit weights file holds the converted backbone already.
    if file is not None and not network.is_quantized:
        _write(file, network)
    return network


def cached(source: Source) -> OpenVinoModel | None:
    """Return the backbone of `source` from this machine's cache; None if it is not there."""
    file = _file(source)
    return _read(file) if file is not None else None


def is_cached(source: Source) -> bool:
    """Whether the backbone of `source` has a file in this machine's cache."""
    file = _file(source)
    return file is not None and file.exists()


def _file(source: Source) -> Path | None:
    """Return the file of the backbone of `source` in the cache; None for a user without a cache."""
    cache = folder()
    return cache / f"{directory_name(source.backbone)}-{_key(source)}.safetensors" if cache is not None else None


def folder() -> Path | None:
    """Return the directory of the cache; None for a user without a home directory."""
    if given := os.environ.get("VIDCLF_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidclf"
    except RuntimeError:  # in a pod the user may be a mere number, without a name and a home
        return None


def _key(source: Source) -> str:
    """Return a digest, as text, of everything that decides the result of a conversion; it names the cached file."""
    versions = [version(name) for name in ("openvino", "torch", "torchvision")]
    inputs: list[Any] = [VERSION, source.backbone, source.weights_digest, source.preprocessing, versions]
    if source.network is not None:
        inputs += [source.network, [version(name) for name in ("timm", "open_clip_torch")]]
    return hashlib.sha256(json_text(inputs, sort_keys=True).encode()).hexdigest()[:16]


def version(name: str) -> str | None:
    """Return the version of the installed library `name` as text; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(file: Path) -> OpenVinoModel | None:
    """Read a converted backbone from the cache; returns None if there is no such file or the file is damaged."""
    try:
        arrays = safetensors.numpy.load(file.read_bytes())
        model = OpenVinoModel(
            graph=arrays["graph"].tobytes(),
            weights=arrays["weights"],
            probe_THWC=arrays["probe_THWC"],
            probed_TD=arrays["probed_TD"],
        )
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        print(f"{file} cannot be read, so the backbone is converted again: {error}", file=sys.stderr)
        return None
    with contextlib.suppress(OSError):  # the file of another user, which then looks older than it is
        os.utime(file)
    return model


def _write(file: Path, model: OpenVinoModel) -> None:
    """Write a converted backbone to the cache, and delete the least recently used files beyond `MAX_FILES`."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "graph": np.frombuffer(model.graph, np.uint8),
        "weights": model.weights,
        "probe_THWC": model.probe_THWC,
        "probed_TD": model.probed_TD,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        storage.publish_bytes(str(file), safetensors.numpy.save(arrays))
        delete_old(file.parent, "*.safetensors", MAX_FILES)
    except OSError as error:  # without a writable home the next job converts again; nothing else is lost
        print(f"{file} could not be written, so the next job converts the backbone again: {error}", file=sys.stderr)


def delete_old(cache: Path, pattern: str, most: int) -> None:
    """Delete the least recently used files of the cache whose names match `pattern`, beyond the number `most`."""
    by_age = sorted(cache.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[most:]:
        old.unlink(missing_ok=True)
