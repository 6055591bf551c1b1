"""Inference engines (CNNs ready to run) for workers: prepared once per job, shared through Ray's object store. [Ray]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidclf.backbones import int8_weights, onnx_models, openvino_engine
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import State
from vidclf.backbones.known_weights import state_with_digest
from vidclf.backbones.openvino_cache import Source, cached, converted
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.errors import ConfigError
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

    check_device(setup.state, described(setup), num_gpus)
    if num_gpus:
        return ray.put(state_of(setup))
    # Read here, because a worker takes longer to start than reading takes.
    network = cached(conversion_source(setup.spec))
    if network is not None:
        return ray.put(network)
    state = ray.put(state_of(setup))
    # In a worker, because the driver has no memory to spare and reads the manifest meanwhile.
    return ray.remote(num_cpus=0)(_converted_or_state).remote(setup.spec, described(setup), state, tally)


def check_device(state: State, model: BackboneModel, num_gpus: float) -> None:
    """Raise ConfigError if the backbone would run on a GPU, and its weights run only on CPUs.

    `num_gpus`: the share of a GPU per worker; 0 means a CPU.
    """
    int8_weights.check_device(state, model.weights, num_gpus)
    if num_gpus and onnx_models.is_onnx(state):
        raise ConfigError(f"--backbone {model.name}: ONNX files run only on CPUs (--gpus-per-cnn-worker 0)")


def conversion_source(spec: FeatureSpec) -> Source:
    """Return the part of a feature specification that decides the result of converting its backbone to OpenVINO.

    The sampling of frames, for example, has no influence on that.
    """
    return Source(
        backbone=spec.backbone,
        weights_digest=spec.weights_digest,
        preprocessing=spec.transform,
        network=spec.network,
    )


def described(setup: BackboneSetup) -> BackboneModel:
    """Return the description of a backbone that is to compute features."""
    assert setup.model is not None, f"{setup.spec.backbone}: stored features are read, nothing is computed"
    return setup.model


def state_of(setup: BackboneSetup) -> State:
    """Return the weights of a backbone that is to compute features, read now if the job has not needed them before."""
    return setup.state or state_with_digest(described(setup), setup.spec.weights_digest)


def _converted_or_state(spec: FeatureSpec, model: BackboneModel, state: State, tally: Any) -> OpenVinoModel | State:
    """Return `converted_or_state` in a Ray task, whose messages `tally` shows to the user."""
    return converted_or_state(spec, model, state, tally.say.remote)


def converted_or_state(
    spec: FeatureSpec, model: BackboneModel, state: State, say: Callable[[str], None]
) -> OpenVinoModel | State:
    """Return the backbone converted to OpenVINO, or its state dict (for torch) where OpenVINO cannot run it.

    In the second case, `say` receives a message for the user. Raises ConfigError for an ONNX file that OpenVINO cannot
    run, because torch cannot run it either.
    """
    try:
        return converted(conversion_source(spec), model, state)
    except ConversionError as error:
        if onnx_models.is_onnx(state):
            raise ConfigError(f"--backbone {model.name}: {error}") from error
        say(f"{spec.backbone} runs in torch, several times slower, because OpenVINO cannot: {error}")
        return state


def load_engine(network: OpenVinoModel | State, model: BackboneModel, device: str, precision: str) -> Engine:
    """Return the engine for the backbone `model`: in OpenVINO if `network` is converted, in torch for a state dict.

    `precision`: fp32, bf16, int8 or auto, with the meaning of `openvino_engine.load` and `torch_engine.load`.
    """
    if isinstance(network, OpenVinoModel):
        return openvino_engine.load(network, model.label, model.weights, precision)
    # Imported here, because workers on CPUs start faster and smaller without torch.
    from vidclf.backbones import torch_engine

    return torch_engine.load(model, network, device, precision)
