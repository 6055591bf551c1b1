"""Translation of the layers in a checkpoint of the older system to the layers of `TemporalClassifier`.

The modules have the same names in both. Layers inside an `nn.Sequential` are identified by the shapes of their tensors
and by their order: their numbers depend on the layers without weights between them.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidclf.errors import ConfigError

SEQUENTIAL = ("input_projection", "attention_pooling", "classifier")
"""Names of the modules that are an `nn.Sequential`."""

BATCH_NORM_EPS = 1e-5
"""The epsilon of batch normalisation: torch's default, because a checkpoint does not contain the value."""

_KINDS = {
    (2, frozenset({"weight", "bias"})): "Linear",
    (1, frozenset({"weight", "bias"})): "LayerNorm",
    (1, frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})): "BatchNorm1d",
}
"""Class name of a layer, by the number of dimensions of its weight and the names of its tensors."""


@dataclass(frozen=True, kw_only=True)
class ClassifierShape:
    """Sizes of the `classifier` module, the final fully connected layers."""

    hidden_dims: tuple[int, ...]
    """width of each hidden layer"""
    norm: Literal["none", "layer"]
    """`layer` if a LayerNorm follows every hidden layer, `none` if none follows"""


@dataclass
class _Layer:
    """A layer with weights inside an `nn.Sequential` of a checkpoint."""

    index: int
    """position of the layer in the `nn.Sequential`"""
    kind: str
    """class name of the layer, as in `_KINDS`"""
    names: dict[str, str]
    """full name in the checkpoint of each tensor, by its short name such as `weight`"""
    tensors: dict[str, Tensor]
    """the tensors by their short names"""


def translate(path: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], ClassifierShape]:
    """Rename the tensors of a checkpoint to the names that `TemporalClassifier` gives them.

    Returns the weights under the new names, the original name of each new name, and the sizes of the classifier module.
    `path` is the checkpoint's, for messages. Raises ConfigError if a module has other layers than `TemporalClassifier`.
    """
    layers = _layers_in_order(path, tensors)
    state = {name: tensor for name, tensor in tensors.items() if _parts(name) is None}
    original = {name: name for name in state}
    classifier = _classifier_shape(path, layers["classifier"])
    targets = {
        "input_projection": [("Linear", 0), ("LayerNorm", 1)],
        "attention_pooling": [("Linear", 0), ("LayerNorm", 1), ("Linear", 4)],
        "classifier": _classifier_targets(classifier),
    }
    layers["classifier"] = _without_batch_norm(path, layers["classifier"])
    for module, target in targets.items():
        if [layer.kind for layer in layers[module]] != [kind for kind, _ in target]:
            kinds = ", ".join(f"{layer.kind} ({module}.{layer.index})" for layer in layers[module]) or "nothing"
            raise ConfigError(f"{path}: {module} must be {', '.join(kind for kind, _ in target)}, is {kinds}")
        for layer, (_, index) in zip(layers[module], target, strict=True):
            for name, tensor in layer.tensors.items():
                state[f"{module}.{index}.{name}"] = tensor
                original[f"{module}.{index}.{name}"] = layer.names[name]
    return state, original, classifier


def _parts(name: str) -> tuple[str, int, str] | None:
    """Split a tensor's name into module, position of the layer and short name; None if the tensor is not in an
    `nn.Sequential`."""
    match = re.fullmatch(r"(\w+)\.(\d+)\.(\w+)", name)
    return (match[1], int(match[2]), match[3]) if match is not None and match[1] in SEQUENTIAL else None


def _layers_in_order(path: str, tensors: dict[str, Tensor]) -> dict[str, list[_Layer]]:
    """For each `nn.Sequential` of a checkpoint, its layers sorted by position. Raises ConfigError if a layer is not a
    complete one of `_KINDS`."""
    layers: dict[str, dict[int, _Layer]] = {module: {} for module in SEQUENTIAL}
    for name, tensor in tensors.items():
        parts = _parts(name)
        if parts is None:
            continue
        module, index, tensor_name = parts
        layer = layers[module].setdefault(index, _Layer(index=index, kind="", names={}, tensors={}))
        layer.names[tensor_name], layer.tensors[tensor_name] = name, tensor
    for module in layers:
        for layer in layers[module].values():
            dimensions = layer.tensors["weight"].ndim if "weight" in layer.tensors else 0
            layer.kind = _KINDS.get((dimensions, frozenset(layer.tensors)), "")
            if not layer.kind:
                raise ConfigError(
                    f"{path}: {module}.{layer.index} must be a whole Linear, LayerNorm or BatchNorm1d, "
                    f"holds {', '.join(sorted(layer.names.values()))}"
                )
    return {module: [layers[module][index] for index in sorted(layers[module])] for module in SEQUENTIAL}


def _classifier_shape(path: str, layers: list[_Layer]) -> ClassifierShape:
    """Find the hidden widths and the normalisation of the classifier module from its layers.

    Raises ConfigError unless the layers are a series of Linear, optional normalisation and activation, with a Linear at
    the end.
    """
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
    return ClassifierShape(hidden_dims=tuple(hidden_dims), norm=norms[0] if norms else "none")


def _classifier_targets(classifier: ClassifierShape) -> list[tuple[str, int]]:
    """Class name and position of each layer with weights that the classifier of `TemporalClassifier` has with these
    sizes."""
    norms = ["LayerNorm"] if classifier.norm == "layer" else []
    targets = []
    step = 3 + len(norms)  # Linear, optional LayerNorm, ReLU, Dropout
    for number in range(len(classifier.hidden_dims)):
        targets += [(kind, number * step + offset) for offset, kind in enumerate(["Linear", *norms])]
    return [*targets, ("Linear", len(classifier.hidden_dims) * step)]


def _without_batch_norm(path: str, layers: list[_Layer]) -> list[_Layer]:
    """The layers with each BatchNorm1d merged into the Linear before it.

    At inference a BatchNorm1d only scales and shifts each output by constants.
    """
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
