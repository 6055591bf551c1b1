"""Inference engines (CNNs ready to run) for workers: prepared once per job, shared through Ray's object store. [Ray]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidclf.backbones import int8_weights, openvino_engine
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_cache import Source, converted
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.job import BackboneSetup


def put_engine_source(setup: BackboneSetup, num_gpus: float, tally: Any) -> Any:
    """Prepare a backbone for the workers and return a Ray reference to the first argument of `load_engine`.

    It refers to the converted backbone for CPUs, and to the state dict for GPUs. `setup`: the backbone with its
    weights. `num_gpus`: the share of a GPU per CNN worker. `tally`: the actor that shows messages to the user. Raises
    ConfigError for 8-bit weights on a GPU.
    """
    # Imported here, because a program that classifies single videos loads an engine without Ray.
    import ray

    int8_weights.check_device(setup.state, setup.weights, num_gpus)
    state = ray.put(setup.state)
    if num_gpus:
        return state
    # In a worker, because the driver has no memory to spare and reads the manifest meanwhile.
    return ray.remote(num_cpus=0)(_converted_or_state).remote(setup.spec, setup.weights, state, tally)


def conversion_source(spec: FeatureSpec) -> Source:
    """Return the part of a feature specification that decides the result of converting its backbone to OpenVINO.

    The sampling of frames, for example, has no influence on that.
    """
    return Source(backbone=spec.backbone, weights_digest=spec.weights_digest, preprocessing=spec.transform)


def _converted_or_state(spec: FeatureSpec, weights: str, state: State, tally: Any) -> OpenVinoModel | State:
    """Return `converted_or_state` in a Ray task, whose messages `tally` shows to the user."""
    return converted_or_state(spec, weights, state, tally.say.remote)


def converted_or_state(
    spec: FeatureSpec, weights: str, state: State, say: Callable[[str], None]
) -> OpenVinoModel | State:
    """Return the backbone converted to OpenVINO, or its state dict (for torch) where OpenVINO cannot run it.

    In the second case, `say` receives a message for the user.
    """
    try:
        return converted(conversion_source(spec), weights, state)
    except ConversionError as error:
        say(f"{spec.backbone} runs in torch, several times slower, because OpenVINO cannot: {error}")
        return state


def load_engine(network: OpenVinoModel | State, name: str, weights: str, device: str, precision: str) -> Engine:
    """Return the engine for the backbone `name`: in OpenVINO if `network` is converted, in torch for a state dict.

    `precision`: fp32, bf16, int8 or auto, with the meaning of `openvino_engine.load` and `torch_engine.load`.
    """
    if isinstance(network, OpenVinoModel):
        return openvino_engine.load(network, name, weights, precision)
    # Imported here, because workers on CPUs start faster and smaller without torch.
    from vidclf.backbones import torch_engine

    return torch_engine.load(name, weights, network, device, precision)
