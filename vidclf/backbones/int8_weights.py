"""Weights in 8-bit integers: a backbone as OpenVINO runs it, in a file that `--weights` takes.

`jobs/quantize.py` writes such a file (safetensors) and `backbone.load_weights` reads it like any other;
its digest is another than that of the weights it was made of, so feature keys tell the two apart. It
holds the backbone's name, the graph and the constants (OpenVINO's intermediate representation), and what
the network gave for the probe where it was made: processors without instructions for 8-bit products
saturate some of them, and would give other features under the same key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.errors import ConfigError

State = dict[str, npt.NDArray[np.generic]]

_BACKBONE, _GRAPH, _CONSTANTS, _PROBED = (f"openvino.{name}" for name in ("backbone", "graph", "constants", "probed"))


@dataclass(frozen=True, kw_only=True)
class Int8Weights:
    """What such a file holds."""

    backbone: str
    graph: bytes
    """the representation's XML"""
    constants: npt.NDArray[np.uint8]
    probed_TD: npt.NDArray[np.float32]
    """features of `engine.probe`"""

    def state(self) -> State:
        """As arrays by name, like a state dict."""
        return {
            _BACKBONE: np.frombuffer(self.backbone.encode(), np.uint8),
            _GRAPH: np.frombuffer(self.graph, np.uint8),
            _CONSTANTS: self.constants,
            _PROBED: self.probed_TD,
        }


def is_quantized(state: State) -> bool:
    return _GRAPH in state


def unpack(state: State, name: str, what: str) -> Int8Weights:
    """What a state holds; ConfigError, beginning with `what`, where it is another backbone's."""
    named = state[_BACKBONE].tobytes().decode()
    if named != name:
        raise ConfigError(f"{what}: holds {named}, quantized")
    return Int8Weights(
        backbone=named,
        graph=state[_GRAPH].tobytes(),
        constants=state[_CONSTANTS].view(np.uint8),
        probed_TD=state[_PROBED].astype(np.float32),
    )


def check_precision(state: State, weights: str, precision: str) -> None:
    """ConfigError unless `--precision` is one that these weights have."""
    if is_quantized(state) and precision not in ("auto", "int8"):
        raise ConfigError(
            f"--precision must be auto or int8 for --weights {weights}, which are quantized, got {precision}"
        )
    if not is_quantized(state) and precision == "int8":
        raise ConfigError(f"--precision int8: takes --weights that jobs/quantize.py wrote, got {weights}")


def check_device(state: State, weights: str, num_gpus: float) -> None:
    """ConfigError where quantized weights are to run on a GPU."""
    if num_gpus and is_quantized(state):
        raise ConfigError(f"--weights {weights}: run on CPUs alone (--gpus-per-cnn-worker 0), being quantized")
