"""Import of checkpoints of an older system (here: the reference system) as members of an ensemble.

`best_ensemble_model_<i>.pt` is a pickle of a dictionary with `model_state_dict` and `model_config` (feature_dim,
hidden_dim, num_classes, num_lstm_layers, num_attention_heads, dropout, bidirectional). It is read by torch's unpickler
for weights alone, which runs no code from the file. Its weights are translated by `reference_layers.py`.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidclf import storage
from vidclf.config import ModelConfig
from vidclf.ensemble.reference_layers import translate
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features import hdf5

FILE_NAME = re.compile(r"best_ensemble_model_(\d+)\.pt")
"""Pattern of the checkpoints' file names; the group is the number of the checkpoint."""

CONFIG_TYPES: dict[str, type[Any]] = {
    "feature_dim": int,
    "hidden_dim": int,
    "num_classes": int,
    "num_lstm_layers": int,
    "num_attention_heads": int,
    "dropout": float,
    "bidirectional": bool,
}
"""The keys that a checkpoint's `model_config` must have, and the types of their values."""

_RULES = {int: "a whole number of at least 1", float: "a number", bool: "True or False"}
"""For each type in `CONFIG_TYPES`, in words, the values that are allowed."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of one ensemble member, read from a checkpoint of the older system."""

    file: str
    """name of the checkpoint file, without its directory"""
    digest: str
    """SHA-256 of the checkpoint file"""
    state: dict[str, Tensor]
    """weights in float32, under the names that `TemporalClassifier` gives them"""


@dataclass(frozen=True, kw_only=True)
class ReferenceEnsemble:
    """All checkpoints of the older system in one directory. All have the same sizes."""

    feature_dim: int
    num_classes: int
    model: ModelConfig
    checkpoints: list[Checkpoint]

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all checkpoints, sorted by their numbers."""
        return hashlib.sha256("".join(checkpoint.digest for checkpoint in self.checkpoints).encode()).hexdigest()


def read(directory: str) -> ReferenceEnsemble:
    """Read all checkpoints `best_ensemble_model_<i>.pt` in a directory, sorted by their numbers.

    Raises ConfigError, naming file and key, if there is no checkpoint, or if one

    - cannot be read without running code;
    - has missing or additional keys;
    - has other sizes than its `model_config` or than the other checkpoints;
    - is not bidirectional;
    - holds NaN or infinite values;
    - has layers that `TemporalClassifier` does not have.
    """
    paths = {posixpath.basename(path).split("?")[0]: path for path in storage.list_files(directory)}
    files = sorted((name for name in paths if FILE_NAME.fullmatch(name)), key=_number)
    if not files:
        raise ConfigError(
            f"--import-reference {directory}: must hold best_ensemble_model_<i>.pt, "
            f"holds {', '.join(sorted(paths)[:3]) or 'no file'}"
        )
    members = [_member(paths[name]) for name in files]
    for name, member in zip(files, members, strict=True):
        differing = [
            f"{field} {getattr(member, field)} != {getattr(members[0], field)}"
            for field in ("feature_dim", "num_classes", "model")
            if getattr(member, field) != getattr(members[0], field)
        ]
        if differing:
            raise ConfigError(
                f"--import-reference {directory}: all checkpoints must have the same sizes, {name} and {files[0]} "
                f"have {'; '.join(differing)}"
            )
    return ReferenceEnsemble(
        feature_dim=members[0].feature_dim,
        num_classes=members[0].num_classes,
        model=members[0].model,
        checkpoints=[member.checkpoints[0] for member in members],
    )


def class_names(given: tuple[str, ...], num_classes: int, labels: set[str]) -> list[str]:
    """Class names, one per output of the checkpoints and in the same order.

    `given` (from `--reference-classes`) holds the names themselves, or the path of one HDF5 feature file of the older
    system that maps names to outputs. No order is assumed: a checkpoint does not contain it, and a wrong order would
    show only as low accuracy.

    Raises ConfigError if the names are not `num_classes` in number, or are not the same set as the `labels` of the
    features.
    """
    rule = f"the {num_classes} class names in the order of the checkpoints' outputs, or a feature file that maps them"
    if not given:
        raise ConfigError(f"--reference-classes must be {rule}; the features hold {', '.join(sorted(labels))}")
    is_file = len(given) == 1 and given[0].endswith((".h5", ".hdf5"))
    names = hdf5.read_classes(given[0]) if is_file else list(given)
    if len(names) != num_classes or set(names) != labels:
        raise ConfigError(
            f"--reference-classes must be {rule}, got {', '.join(names)}; the features hold {', '.join(sorted(labels))}"
        )
    return names


def _number(name: str) -> int:
    """The number in a checkpoint's file name."""
    match = FILE_NAME.fullmatch(name)
    assert match is not None, "callers pass only names that match"
    return int(match[1])


def _member(path: str) -> ReferenceEnsemble:
    """Read and check one checkpoint file. Returns it as a `ReferenceEnsemble` with one checkpoint."""
    content = storage.read_bytes(path)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can make torch raise any exception
        message = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{path}: cannot be read as weights alone, and nothing else is loaded ({type(error).__name__}: {message})"
        ) from error
    if not isinstance(loaded, dict) or not {"model_state_dict", "model_config"} <= loaded.keys():
        content_text = sorted(map(str, loaded)) if isinstance(loaded, dict) else type(loaded).__name__
        raise ConfigError(f"{path}: must hold model_state_dict and model_config, holds {content_text}")
    sizes = _checked_sizes(path, loaded["model_config"])
    tensors = _checked_tensors(path, loaded["model_state_dict"])
    state, original, classifier = translate(path, tensors)
    try:
        model = ModelConfig(
            hidden_dim=sizes["hidden_dim"],
            num_lstm_layers=sizes["num_lstm_layers"],
            num_attention_heads=sizes["num_attention_heads"],
            dropout=float(sizes["dropout"]),
            classifier_dims=classifier.hidden_dims,
            classifier_norm=classifier.norm,
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: model_config cannot be ({error})") from error
    # Building a layer is the way to learn the names of its tensors, so the number of layers is limited first.
    if model.num_lstm_layers > len(state):
        raise ConfigError(
            f"{path}: model_config's num_lstm_layers must be at most the {len(state)} tensors of model_state_dict, "
            f"is {model.num_lstm_layers}"
        )
    try:
        with torch.device("meta"):
            expected = TemporalClassifier(sizes["feature_dim"], sizes["num_classes"], model).state_dict()
    except (RuntimeError, OverflowError) as error:
        raise ConfigError(f"{path}: model_config cannot be ({str(error).splitlines()[0]})") from error
    unknown = sorted(original[name] for name in state.keys() - expected.keys())
    missing = sorted(expected.keys() - state.keys())
    if unknown or missing:
        raise ConfigError(f"{path}: model_state_dict has unknown keys {unknown}, and misses {missing}")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise ConfigError(
                f"{path}: {original[name]} must be {list(tensor.shape)} by model_config, is {list(state[name].shape)}"
            )
    digest = hashlib.sha256(content).hexdigest()
    return ReferenceEnsemble(
        feature_dim=sizes["feature_dim"],
        num_classes=sizes["num_classes"],
        model=model,
        checkpoints=[Checkpoint(file=posixpath.basename(path).split("?")[0], digest=digest, state=state)],
    )


def _checked_sizes(path: str, config: Any) -> dict[str, Any]:
    """Return a checkpoint's `model_config`. Raises ConfigError unless it has exactly the keys and types of
    `CONFIG_TYPES`."""
    if not isinstance(config, dict) or config.keys() != CONFIG_TYPES.keys():
        keys = config.keys() if isinstance(config, dict) else set()
        raise ConfigError(
            f"{path}: model_config has unknown keys {sorted(map(str, keys - CONFIG_TYPES.keys()))}, "
            f"and misses {sorted(CONFIG_TYPES.keys() - keys)}"
        )
    for name, kind in CONFIG_TYPES.items():
        value: Any = config[name]
        if not (type(value) is kind or (kind is float and type(value) is int)) or (kind is int and value < 1):
            raise ConfigError(f"{path}: model_config's {name} must be {_RULES[kind]}, is {value!r}")
    if not config["bidirectional"]:
        raise ConfigError(f"{path}: model_config's bidirectional must be True, is False; the model has no other form")
    return config


def _checked_tensors(path: str, state: Any) -> dict[str, Tensor]:
    """Return a checkpoint's `model_state_dict` with all tensors as float32. Raises ConfigError if a value is NaN or
    infinite."""
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"{path}: model_state_dict must map names to tensors")
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{path}: {name} must hold finite numbers, holds others (NaN or infinite)")
    return {str(name): tensor.float() for name, tensor in state.items()}
