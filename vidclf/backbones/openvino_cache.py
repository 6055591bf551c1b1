"""Cache of backbones converted to OpenVINO, kept on the machine that converted them.

A conversion needs torch and several seconds, which every job would spend before its first video. The result
depends only on the backbone, its weights, its preprocessing and the libraries' versions; these name the file.
Files are in `$VIDCLF_CACHE`, or in `vidclf` below `$XDG_CACHE_HOME` (`~/.cache`). A user without a home has no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_engine import OpenVinoModel

KEPT = 8
"""Files on a machine; the ones used longest ago go first."""

VERSION = 1
"""Of what `convert` does; raised where it changes."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a conversion depends on, besides the libraries' versions."""

    backbone: str
    weights_digest: str
    preprocessing: dict[str, Any]


def converted(source: Source, weights: str, state: State) -> OpenVinoModel:
    """The OpenVINO model of a backbone whose `state` was read from `weights`. Raises ConversionError."""
    folder = _folder()
    file = folder / f"{source.backbone}-{_key(source)}.safetensors" if folder is not None else None
    kept = _read(file) if file is not None else None
    if kept is not None:
        return kept
    import torch

    from vidclf.backbones.openvino_convert import convert

    torch.set_num_threads(1)
    made = convert(source.backbone, weights, state)
    # A quantized one is its own file already.
    if file is not None and not made.is_quantized:
        _keep(file, made)
    return made


def _folder() -> Path | None:
    if given := os.environ.get("VIDCLF_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidclf"
    except RuntimeError:  # a pod's user may be a number that has no name and no home
        return None


def _key(source: Source) -> str:
    versions = [_version(name) for name in ("openvino", "torch", "torchvision")]
    decides = [VERSION, source.backbone, source.weights_digest, source.preprocessing, versions]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(file: Path) -> OpenVinoModel | None:
    try:
        arrays = safetensors.numpy.load(file.read_bytes())
        found = OpenVinoModel(
            graph=arrays["graph"].tobytes(),
            weights=arrays["weights"],
            probe_THWC=arrays["probe_THWC"],
            probed_TD=arrays["probed_TD"],
        )
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        print(f"{file} is converted anew: {error}", file=sys.stderr)
        return None
    with contextlib.suppress(OSError):  # another user's, which then looks older than it is
        os.utime(file)
    return found


def _keep(file: Path, made: OpenVinoModel) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "graph": np.frombuffer(made.graph, np.uint8),
        "weights": made.weights,
        "probe_THWC": made.probe_THWC,
        "probed_TD": made.probed_TD,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        storage.publish_bytes(str(file), safetensors.numpy.save(arrays))
        by_age = sorted(file.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in by_age[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:  # a home that cannot be written to costs the next job the conversion, nothing else
        print(f"{file} could not be kept: {error}", file=sys.stderr)
