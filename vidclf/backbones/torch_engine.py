"""Backbones in torch: on GPUs, and on CPUs where OpenVINO cannot run one.

On a GPU a network in bf16 has its batch norms folded into its convolutions and its weights in bf16, laid out
channels-last. Frames go up as they are, 8 bits a channel, and are normalised there. While a batch is computed the
next one is on its way: copied to memory that the GPU can fetch from, and fetched on a stream of its own.

Shape suffixes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vidclf.backbones import cnn
from vidclf.backbones.agreement import LEAST_AGREEMENT, Features, Frames, agreement, reference_photos
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.engine import Engine

FRAMES_PER_GPU_BATCH = 128
"""Of one or several videos; enough to keep a GPU's units busy in the last layers, where pictures are small."""


def load(name: str, weights: str, state: dict[str, npt.NDArray[np.generic]], device: str, precision: str) -> Engine:
    """As `engine.load`. On a CPU `auto` is fp32: bf16 in torch is no sure gain there."""
    torch.set_num_threads(1)
    network = cnn.build(name, weights, state, device)
    if device == "cpu":
        used = "bf16" if precision == "bf16" else "fp32"
        return Engine(name=f"torch cpu {used}", run=eager(network, is_bf16=used == "bf16"))
    full = Engine(name=f"torch {device} fp32", run=OnGpu(network))
    if precision == "fp32" or (precision == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False)):
        return full
    half = Engine(name=f"torch {device} bf16", run=OnGpu(in_bf16(network)))
    if precision == "bf16":
        return half
    probe_THWC = reference_photos(network.preprocessing.transform.crop_size)
    return half if agreement(half(probe_THWC), full(probe_THWC)) >= LEAST_AGREEMENT else full


def eager(network: Backbone, is_bf16: bool = False) -> Callable[[Frames], Features]:
    def run(frames_THWC: Frames) -> Features:
        with torch.autocast(network.scale.device.type, torch.bfloat16, enabled=is_bf16):
            features_TD: Features = network(torch.from_numpy(frames_THWC)).numpy()
        return features_TD

    return run


def in_bf16(network: Backbone) -> Backbone:
    """A copy with batch norms folded into the convolutions before them, and weights in bf16."""
    half = copy.deepcopy(network)
    half.trunk = folded(half.trunk).to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    half.dtype = torch.bfloat16
    return half


def folded(trunk: nn.Module) -> GraphModule:
    """The same function, without the batch norms that follow a convolution whose output nothing else reads."""
    traced = symbolic_trace(trunk)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        is_conv = before.op == "call_module" and isinstance(modules[before.target], nn.Conv2d)
        if not is_conv or len(before.users) > 1:
            continue
        modules[before.target] = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        traced.set_submodule(before.target, modules[before.target])
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """Room for a batch on its way."""

    pinned: Tensor
    on_gpu: Tensor
    copied: torch.cuda.Event
    """recorded where the GPU has the batch, and `pinned` may be written again"""
    read: torch.cuda.Event
    """recorded where the batch has been computed, and `on_gpu` may be written again"""


class OnGpu:
    """Frames [T, H, W, 3] in, features [T, D] out, by a network on a GPU."""

    def __init__(self, network: Backbone) -> None:
        self._network = network
        self._device = network.scale.device
        self._uploads = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side = network.preprocessing.transform.crop_size
        shape = (FRAMES_PER_GPU_BATCH, side, side, 3)
        self._slots = [
            _Slot(
                pinned=torch.empty(shape, dtype=torch.uint8, pin_memory=True),
                on_gpu=torch.empty(shape, dtype=torch.uint8, device=self._device),
                copied=torch.cuda.Event(),  # type: ignore[no-untyped-call]
                read=torch.cuda.Event(),  # type: ignore[no-untyped-call]
            )
            for _ in range(2)
        ]

    @torch.inference_mode()
    def __call__(self, frames_THWC: Frames) -> Features:
        products = torch.cuda.current_stream(self._device)
        features = []
        for number, chunk in enumerate(torch.split(torch.from_numpy(frames_THWC), FRAMES_PER_GPU_BATCH)):
            slot = self._slots[number % len(self._slots)]
            slot.copied.synchronize()
            slot.pinned[: len(chunk)].copy_(chunk)
            with torch.cuda.stream(self._uploads):
                slot.read.wait(self._uploads)
                slot.on_gpu[: len(chunk)].copy_(slot.pinned[: len(chunk)], non_blocking=True)
                slot.copied.record(self._uploads)
            slot.copied.wait(products)
            features.append(self._network.embed(slot.on_gpu[: len(chunk)]))
            slot.read.record(products)
        features_TD: Features = torch.cat(features).float().cpu().numpy()
        return features_TD
