"""File with a quantized backbone (weights in 8-bit integers) for OpenVINO, given by `--weights`.

`jobs/quantize.py` writes the file (safetensors), and `weights.load_weights` reads it like any other weights. Its
digest differs from that of the original weights, so their features have different keys and are never mixed.

The file holds the backbone's name, the graph and the constants (OpenVINO's intermediate representation), and the
features of a few reference photos on the machine that quantized it. Processors without instructions for 8-bit
products saturate some products and would give other features under the same key; these reference features reveal
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.errors import ConfigError

State = dict[str, npt.NDArray[np.generic]]
"""Type of a dictionary of arrays by name: a torch state dict, or the content of an 8-bit weights file."""

_BACKBONE, _GRAPH, _CONSTANTS, _PROBED = (f"openvino.{name}" for name in ("backbone", "graph", "constants", "probed"))


@dataclass(frozen=True, kw_only=True)
class Int8Weights:
    """Content of a file with 8-bit weights of a backbone."""

    backbone: str
    """name of the backbone, `BackboneModel.label`"""
    graph: bytes
    """structure of the CNN: the XML of OpenVINO's intermediate representation"""
    constants: npt.NDArray[np.uint8]
    """constants of the CNN: the binary part of OpenVINO's intermediate representation"""
    probed_TD: npt.NDArray[np.float32]
    """features [8, D] of the photos from `agreement.reference_photos` on the machine that quantized the backbone"""

    def state(self) -> State:
        """Return the content of the file as a dictionary of arrays by name, like a state dict."""
        return {
            _BACKBONE: np.frombuffer(self.backbone.encode(), np.uint8),
            _GRAPH: np.frombuffer(self.graph, np.uint8),
            _CONSTANTS: self.constants,
            _PROBED: self.probed_TD,
        }


def is_quantized(state: Mapping[str, Any]) -> bool:
    """Return whether `state`, arrays or tensors by name, is the content of a file with 8-bit weights."""
    return _GRAPH in state


def unpack(state: State, name: str, flag: str) -> Int8Weights:
    """Return the 8-bit weights in `state` as an object.

    Raises ConfigError if they belong to another backbone than `name`. `flag`: the flag and its value, with which the
    error message begins.
    """
    saved_name = state[_BACKBONE].tobytes().decode()
    if saved_name != name:
        raise ConfigError(f"{flag}: holds 8-bit weights of {saved_name}, not of {name}")
    return Int8Weights(
        backbone=saved_name,
        graph=state[_GRAPH].tobytes(),
        constants=state[_CONSTANTS].view(np.uint8),
        probed_TD=state[_PROBED].astype(np.float32),
    )


def check_precision(state: State, weights: str, precision: str) -> None:
    """Raise ConfigError unless the weights in `state` can run in `precision`, the value of `--precision`.

    `weights`: the value of `--weights`, for the error message.
    """
    if is_quantized(state) and precision not in ("auto", "int8"):
        raise ConfigError(
            f"--precision must be auto or int8 for --weights {weights}, which are quantized, got {precision}"
        )
    if not is_quantized(state) and precision == "int8":
        raise ConfigError(f"--precision int8: requires --weights that jobs/quantize.py wrote, got {weights}")


def check_device(state: State, weights: str, num_gpus: float) -> None:
    """Raise ConfigError if the weights are 8-bit and would run on a GPU, which is not possible.

    `num_gpus`: the share of a GPU per worker; 0 means a CPU.
    """
    if num_gpus and is_quantized(state):
        raise ConfigError(f"--weights {weights}: are quantized and run only on CPUs (--gpus-per-cnn-worker 0)")
