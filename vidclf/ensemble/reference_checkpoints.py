"""Checkpoints of the reference system as members of an ensemble.

`best_ensemble_model_<i>.pt` is a pickle of a dictionary with `model_state_dict` and `model_config`
(feature_dim, hidden_dim, num_classes, num_lstm_layers, num_attention_heads, dropout, bidirectional); it
is read by torch's unpickler for weights alone, which runs no code from the file. Modules have the names
of ours (`model.py`); the layers inside a sequence of them are told apart by their shapes and taken in
their order, since their numbers depend on which layers without weights stand between.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vidclf import storage
from vidclf.config import ModelConfig
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features import hdf5

FILE_NAME = re.compile(r"best_ensemble_model_(\d+)\.pt")

CONFIG_TYPES: dict[str, type[Any]] = {
    "feature_dim": int,
    "hidden_dim": int,
    "num_classes": int,
    "num_lstm_layers": int,
    "num_attention_heads": int,
    "dropout": float,
    "bidirectional": bool,
}

SEQUENTIAL = ("input_projection", "attention_pooling", "classifier")

BATCH_NORM_EPS = 1e-5
"""torch's default; a state dict does not tell it."""

_KINDS = {
    (2, frozenset({"weight", "bias"})): "Linear",
    (1, frozenset({"weight", "bias"})): "LayerNorm",
    (1, frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})): "BatchNorm1d",
}
"""A layer by the dimensions of its weight and the names of its tensors."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One member."""

    file: str
    """name in the reference's directory"""
    digest: str
    """SHA-256 of the file"""
    state: dict[str, Tensor]
    """weights under the names of `TemporalClassifier`, float32"""


@dataclass(frozen=True, kw_only=True)
class ReferenceEnsemble:
    """The checkpoints of a directory, which all have the same sizes."""

    feature_dim: int
    num_classes: int
    model: ModelConfig
    checkpoints: list[Checkpoint]

    @property
    def digest(self) -> str:
        return hashlib.sha256("".join(checkpoint.digest for checkpoint in self.checkpoints).encode()).hexdigest()


def read(directory: str) -> ReferenceEnsemble:
    """Read all `best_ensemble_model_<i>.pt` of a directory, in order of their number.

    Raises ConfigError, naming file and key, where there is none, where one cannot be read without
    running code, misses or adds keys, has other sizes than its `model_config` or than the other
    checkpoints, is not bidirectional, holds values that are no finite numbers, or has layers that
    `TemporalClassifier` does not have.
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
    """The checkpoints' classes in the order of their outputs, as `given` or as a reference feature file
    (`.h5`) maps them.

    Nothing in a checkpoint tells them and a wrong order would show only as bad accuracy, so that none
    is assumed. Raises ConfigError where they are not as many as the checkpoints' outputs, or not those
    of the features (`labels`).
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
    found = FILE_NAME.fullmatch(name)
    assert found is not None  # only such names are asked for
    return int(found[1])


def _member(path: str) -> ReferenceEnsemble:
    """One checkpoint, checked."""
    content = storage.read_bytes(path)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead it to
        said = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{path}: cannot be read as weights alone, and nothing else is loaded ({type(error).__name__}: {said})"
        ) from error
    if not isinstance(loaded, dict) or not {"model_state_dict", "model_config"} <= loaded.keys():
        held = sorted(map(str, loaded)) if isinstance(loaded, dict) else type(loaded).__name__
        raise ConfigError(f"{path}: must hold model_state_dict and model_config, holds {held}")
    sizes = _checked_sizes(path, loaded["model_config"])
    given = _checked_tensors(path, loaded["model_state_dict"])
    state, original, classifier = _translated(path, given)
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
    # Each layer is built to learn its tensors' names, so there must not be more of them than tensors.
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
    if not isinstance(config, dict) or config.keys() != CONFIG_TYPES.keys():
        held = config.keys() if isinstance(config, dict) else set()
        raise ConfigError(
            f"{path}: model_config has unknown keys {sorted(map(str, held - CONFIG_TYPES.keys()))}, "
            f"and misses {sorted(CONFIG_TYPES.keys() - held)}"
        )
    for name, kind in CONFIG_TYPES.items():
        value: Any = config[name]
        if not (type(value) is kind or (kind is float and type(value) is int)) or (kind is int and value < 1):
            raise ConfigError(f"{path}: model_config's {name} must be {_RULES[kind]}, is {value!r}")
    if not config["bidirectional"]:
        raise ConfigError(f"{path}: model_config's bidirectional must be True, is False; the model has no other form")
    return config


_RULES = {int: "a whole number of at least 1", float: "a number", bool: "True or False"}


def _checked_tensors(path: str, state: Any) -> dict[str, Tensor]:
    """The state dict with its numbers as float32."""
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"{path}: model_state_dict must map names to tensors")
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{path}: {name} must hold finite numbers, holds others (NaN or infinite)")
    return {str(name): tensor.float() for name, tensor in state.items()}


@dataclass(frozen=True, kw_only=True)
class _Classifier:
    hidden_dims: tuple[int, ...]
    norm: Literal["none", "layer"]


@dataclass
class _Layer:
    index: int
    kind: str
    names: dict[str, str]
    """key in the checkpoint of each of its tensors"""
    tensors: dict[str, Tensor]


def _translated(path: str, given: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], _Classifier]:
    """The weights under our names; the name that each had in the checkpoint; what the classifier is."""
    state: dict[str, Tensor] = {}
    original: dict[str, str] = {}
    layers: dict[str, dict[int, _Layer]] = defaultdict(dict)
    for name, tensor in given.items():
        parts = re.fullmatch(r"(\w+)\.(\d+)\.(\w+)", name)
        if parts is None or parts[1] not in SEQUENTIAL:
            state[name], original[name] = tensor, name
            continue
        index = int(parts[2])
        layer = layers[parts[1]].setdefault(index, _Layer(index=index, kind="", names={}, tensors={}))
        layer.names[parts[3]], layer.tensors[parts[3]] = name, tensor
    for module in layers:
        for layer in layers[module].values():
            dimensions = layer.tensors["weight"].ndim if "weight" in layer.tensors else 0
            layer.kind = _KINDS.get((dimensions, frozenset(layer.tensors)), "")
            if not layer.kind:
                raise ConfigError(
                    f"{path}: {module}.{layer.index} must be a whole Linear, LayerNorm or BatchNorm1d, "
                    f"holds {', '.join(sorted(layer.names.values()))}"
                )
    in_order = {module: [layers[module][index] for index in sorted(layers[module])] for module in SEQUENTIAL}
    classifier = _classifier(path, in_order["classifier"])
    places = {
        "input_projection": [("Linear", 0), ("LayerNorm", 1)],
        "attention_pooling": [("Linear", 0), ("LayerNorm", 1), ("Linear", 4)],
        "classifier": _classifier_places(classifier),
    }
    in_order["classifier"] = _without_batch_norm(path, in_order["classifier"])
    for module, wanted in places.items():
        found = in_order[module]
        if [layer.kind for layer in found] != [kind for kind, _ in wanted]:
            held = ", ".join(f"{layer.kind} ({module}.{layer.index})" for layer in found) or "nothing"
            raise ConfigError(f"{path}: {module} must be {', '.join(kind for kind, _ in wanted)}, is {held}")
        for layer, (_, index) in zip(found, wanted, strict=True):
            for name, tensor in layer.tensors.items():
                state[f"{module}.{index}.{name}"] = tensor
                original[f"{module}.{index}.{name}"] = layer.names[name]
    return state, original, classifier


def _classifier(path: str, layers: list[_Layer]) -> _Classifier:
    """Hidden widths and normalisation; ConfigError unless it is Linear, normalisation or not, and an
    activation, over and over, and a Linear at the end."""
    hidden_dims: list[int] = []
    norms: list[Literal["none", "layer"]] = []
    for layer, following in itertools.zip_longest(layers, layers[1:]):
        keys = f"{path}: classifier.{layer.index}"
        if layer.kind == "Linear":
            if following is None:
                continue
            hidden_dims.append(int(layer.tensors["weight"].shape[0]))
            if following.kind == "Linear":
                norms.append("none")
                if following.index == layer.index + 1:
                    raise ConfigError(f"{keys} and classifier.{following.index} must have an activation between them")
            elif following.index != layer.index + 1:
                raise ConfigError(f"{path}: classifier.{following.index} must follow a Linear at once, not others")
        elif following is None or following.kind != "Linear" or following.index == layer.index + 1:
            raise ConfigError(f"{keys} ({layer.kind}) must be followed by an activation and a Linear")
        else:
            norms.append("layer" if layer.kind == "LayerNorm" else "none")
    if len(set(norms)) > 1:
        raise ConfigError(f"{path}: classifier must have a LayerNorm behind every hidden Linear or behind none")
    return _Classifier(hidden_dims=tuple(hidden_dims), norm=norms[0] if norms else "none")


def _classifier_places(classifier: _Classifier) -> list[tuple[str, int]]:
    """Kinds and numbers of our classifier's layers that have weights."""
    norms = ["LayerNorm"] if classifier.norm == "layer" else []
    places = []
    step = 3 + len(norms)  # Linear, LayerNorm or not, ReLU, Dropout
    for number in range(len(classifier.hidden_dims)):
        places += [(kind, number * step + offset) for offset, kind in enumerate(["Linear", *norms])]
    return [*places, ("Linear", len(classifier.hidden_dims) * step)]


def _without_batch_norm(path: str, layers: list[_Layer]) -> list[_Layer]:
    """The layers with each BatchNorm1d folded into the Linear before it: at inference it scales and shifts
    every output by constants."""
    folded: list[_Layer] = []
    for layer in layers:
        if layer.kind != "BatchNorm1d":
            folded.append(layer)
            continue
        linear, norm = folded.pop(), {name: tensor.double() for name, tensor in layer.tensors.items()}
        weight, bias = linear.tensors["weight"].double(), linear.tensors["bias"].double()
        for name in ("weight", "bias", "running_mean", "running_var"):
            if norm[name].shape != bias.shape:
                raise ConfigError(
                    f"{path}: {layer.names[name]} must be {list(bias.shape)}, as long as {linear.names['bias']}, "
                    f"is {list(norm[name].shape)}"
                )
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + BATCH_NORM_EPS)
        tensors = {
            "weight": (scale[:, None] * weight).float(),
            "bias": (scale * (bias - norm["running_mean"]) + norm["bias"]).float(),
        }
        folded.append(_Layer(index=linear.index, kind="Linear", names=linear.names, tensors=tensors))
    return folded
