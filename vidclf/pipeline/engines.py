"""Inference engines for CNN workers: converted once by the driver, shared through Ray's object store. [Ray]"""

from __future__ import annotations

from typing import Any

import ray

from vidclf.backbones import int8_weights, openvino_engine
from vidclf.backbones.engine import Engine
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_cache import Source, converted
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.job import BackboneSetup


def put_engine_source(embedding: BackboneSetup, num_gpus: float, tally: Any) -> Any:
    """A reference to what CNN workers run: on CPUs the converted backbone, on GPUs the state dict."""
    int8_weights.check_device(embedding.state, embedding.weights, num_gpus)
    state = ray.put(embedding.state)
    if num_gpus:
        return state
    # In a worker, because the driver has no memory to spare for it and a manifest to read meanwhile.
    return ray.remote(num_cpus=0)(_converted).remote(embedding.spec, embedding.weights, state, tally)


def conversion_source(spec: FeatureSpec) -> Source:
    """The part of a feature spec that decides its converted backbone: how frames are sampled does not."""
    return Source(backbone=spec.backbone, weights_digest=spec.weights_digest, preprocessing=spec.transform)


def _converted(spec: FeatureSpec, weights: str, state: State, tally: Any) -> OpenVinoModel | State:
    try:
        return converted(conversion_source(spec), weights, state)
    except ConversionError as error:
        tally.say.remote(f"{spec.backbone} runs in torch, several times slower, because OpenVINO cannot: {error}")
        return state


def load_engine(network: OpenVinoModel | State, name: str, weights: str, device: str, precision: str) -> Engine:
    """The engine for what `network` refers to: OpenVINO's for a converted backbone, torch's for a state dict.
    `precision` as for `engine.load`."""
    if isinstance(network, OpenVinoModel):
        return openvino_engine.load(network, name, weights, precision)
    from vidclf.backbones import torch_engine

    return torch_engine.load(name, weights, network, device, precision)
