"""Checks of a whole ensemble directory before a job starts, without torch if the directory is sound."""

from __future__ import annotations

import hashlib

import numpy as np
import safetensors.numpy

from vidclf import storage
from vidclf.ensemble.calibration_file import TrustData, read_trust
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.ensemble.linear_member import LinearMember, read_linear
from vidclf.ensemble.member_shapes import member_shapes
from vidclf.ensemble.weights_file_check import read_header
from vidclf.errors import ConfigError


def read_checked(directory: str) -> tuple[EnsembleInfo, TrustData]:
    """Read what `ensemble.json` and `trust.safetensors` hold, and check every file of the ensemble as `files.load`
    does.

    Torch is loaded only if a member's file is not plainly sound: `files.load` then accepts it or words the error.
    Raises ConfigError as `files.load` does.
    """
    info = read_info(directory)
    are_sized = all(_has_its_sizes(directory, info, index) for index in range(len(info.members)))
    if are_sized and all(_has_its_weights(directory, info, index) for index in range(len(info.members))):
        trust = read_trust(directory, info)
        load_linear(directory, info)
        return info, trust
    # Imported here, because torch takes seconds of CPU time.
    import torch

    from vidclf.ensemble import files

    loaded = files.load(directory, torch.device("cpu"))
    return loaded.info, loaded.trust


def load_linear(directory: str, info: EnsembleInfo) -> LinearMember | None:
    """Load the linear member; None if the ensemble has none. Raises ConfigError if its file does not match `info`."""
    if info.linear is None:
        return None
    num_features = sum(backbone.feature_dim for backbone in info.backbones)
    return read_linear(directory, info.linear.digest, num_features, len(info.classes))


def _has_its_sizes(directory: str, info: EnsembleInfo, index: int) -> bool:
    """Whether a member's file holds, by its header, float32 weights of the sizes in `ensemble.json`.

    False also where that takes torch to decide.
    """
    config = info.model
    sizes = (config.hidden_dim, config.num_lstm_layers, config.num_attention_heads, *config.classifier_dims)
    optional = (config.projection_dim, config.pooling_dim)
    if not all(type(size) is int for size in (*sizes, *(size for size in optional if size is not None))):
        return False
    try:
        header = read_header(storage.join(directory, info.members[index].file))
    except ConfigError:
        return False
    # Layers that the file cannot hold are not even counted up.
    if config.model == "bilstm" and max(config.num_lstm_layers, len(config.classifier_dims)) > len(header.shapes):
        return False
    feature_dim = info.backbones[info.spaces_M[index]].feature_dim
    expected = member_shapes(feature_dim, info.hierarchy.num_outputs, config)
    return header.shapes == expected and set(header.dtypes.values()) == {"F32"}


def _has_its_weights(directory: str, info: EnsembleInfo, index: int) -> bool:
    """Whether a member's file has the digest in `ensemble.json` and finite weights only."""
    member = info.members[index]
    try:
        content = storage.read_bytes(storage.join(directory, member.file))
        if hashlib.sha256(content).hexdigest() != member.digest:
            return False
        return all(bool(np.isfinite(array).all()) for array in safetensors.numpy.load(content).values())
    except (OSError, safetensors.SafetensorError):
        return False
