"""Inference engine that runs backbones in torch: on GPUs, and on CPUs where OpenVINO cannot run a backbone.

On a GPU, a network in bf16 has its batch norms folded into its convolutions, and its weights in bf16 with the
channels-last memory format. Frames are uploaded with 8 bits per channel and normalised on the GPU. While one batch is
computed, the next one is uploaded: it is copied to pinned memory and fetched on a separate stream.

On a GPU, fp32 is IEEE float32. TensorFloat-32, cuDNN's default, rounds the factors of a product to 10 bits of
mantissa. TensorFloat-32 is a separate precision here, `tf32`. Only `auto` uses it, where bf16 is too coarse.

Shape suffixes: T frames, H W pixels, C channels, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vidclf.backbones.agreement import LEAST_AGREEMENT, Features, Frames, agreement, reference_photos
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.cnn import Backbone, build
from vidclf.backbones.engine import Engine
from vidclf.errors import ConfigError

FRAMES_PER_GPU_BATCH = 128
"""Number of frames per batch on a GPU, from one or several videos.

That many frames keep the GPU's units busy in the last layers, where images are small. A worker whose share of the
GPU's memory is too small halves this number until the batch fits.
"""

CONVOLUTIONS = {"fp32": "ieee", "tf32": "tf32", "bf16": "none"}
"""torch's names for how cuDNN computes convolutions of float32 tensors, by precision.

A network in bf16 has no such convolutions.
"""


def load(model: BackboneModel, state: dict[str, npt.NDArray[np.generic]], device: str, precision: str) -> Engine:
    """Return the engine for the backbone `model` with the state dict `state`, from `weights.read_weights`.

    `device`: `cpu` or `cuda`. `precision`: fp32, bf16 or auto. On a CPU auto is fp32, because bf16 in torch is not
    always faster there. On a GPU auto is the first of bf16 and tf32 whose features of the reference photos agree with
    those of fp32, else fp32. Raises ConfigError where the worker's share of the GPU's memory does not hold the
    backbone.
    """
    torch.set_num_threads(1)
    try:
        return _engine(model, state, device, precision)
    except torch.OutOfMemoryError as error:
        raise ConfigError(too_small_text(error)) from error


def _engine(model: BackboneModel, state: dict[str, npt.NDArray[np.generic]], device: str, precision: str) -> Engine:
    network = build(model, state, device)
    if device == "cpu":
        used = "bf16" if precision == "bf16" else "fp32"
        return Engine(name=f"torch cpu {used}", run=eager(network, is_bf16=used == "bf16"))

    def on_gpu(used: str) -> Engine:
        return Engine(
            name=f"torch {device} {used}",
            run=OnGpu(in_bf16(network) if used == "bf16" else network, CONVOLUTIONS[used]),
        )

    if precision != "auto":
        return on_gpu(precision)
    full = on_gpu("fp32")
    # GPUs have bf16 and TF32 since the same generation (Ampere).
    faster = ["bf16", "tf32"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    if faster:
        probe_THWC = reference_photos(model.side)
        exact_TD = full(probe_THWC)
        for used in faster:
            cnn = on_gpu(used)
            if agreement(cnn(probe_THWC), exact_TD) >= LEAST_AGREEMENT:
                return cnn
    return full


def eager(network: Backbone, is_bf16: bool = False) -> Callable[[Frames], Features]:
    """Return a function from frames to features that runs `network` unchanged on its device.

    `is_bf16`: whether torch computes in bf16.
    """

    def run(frames_THWC: Frames) -> Features:
        with torch.autocast(network.scale.device.type, torch.bfloat16, enabled=is_bf16):
            features_TD: Features = network(torch.from_numpy(frames_THWC)).numpy()
        return features_TD

    return run


def in_bf16(network: Backbone) -> Backbone:
    """Return a copy of `network` for bf16: its weights in bf16, its batch norms merged into convolutions.

    Only torchvision's and EfficientNet-Lite's batch norms are merged. Networks of other libraries may branch on their
    input, which `torch.fx` cannot trace.
    """
    half = copy.deepcopy(network)
    if network.model.library in ("torchvision", "efficientnet_lite"):
        half.trunk = folded(half.trunk)
    half.trunk = half.trunk.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    half.dtype = torch.bfloat16
    return half


def folded(trunk: nn.Module) -> GraphModule:
    """Return `trunk` in a form in which batch norms are merged into the convolutions that they follow.

    The scale and shift of a batch norm become part of the convolution's weights. A batch norm stays where another layer
    reads the output of its convolution too.
    """
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
    """Memory for uploading one batch of frames to the GPU; while one such slot is computed, another is filled."""

    pinned: Tensor
    """the batch in the machine's memory, pinned so that the GPU can copy from there"""
    on_gpu: Tensor
    """the batch in the GPU's memory"""
    copied: torch.cuda.Event
    """event: the GPU has received the batch; from then on `pinned` may be overwritten"""
    read: torch.cuda.Event
    """event: the features of the batch are computed; from then on `on_gpu` may be overwritten"""


class Halving:
    """Function from frames to features that works in batches, and halves the batch size whenever memory runs out.

    The smaller size is kept, because the other users of the GPU's memory stay.
    """

    def __init__(self, run: Callable[[Frames, int], Features], num_frames: int, free: Callable[[], None]) -> None:
        """`run`: function of frames and batch size that computes the features. `num_frames`: first batch size.

        `free`: called after a failure to release the memory of the failed batch.
        """
        self._run = run
        self._free = free
        self.num_frames = num_frames

    def __call__(self, frames_THWC: Frames) -> Features:
        """Return the features [T, D] of the frames.

        Raises ConfigError where not even a batch of one frame fits in memory.
        """
        while True:
            try:
                return self._run(frames_THWC, self.num_frames)
            except torch.OutOfMemoryError as error:
                if self.num_frames == 1:
                    raise ConfigError(too_small_text(error)) from error
            # Outside the handler, because its traceback keeps the tensors of the call alive.
            self.num_frames //= 2
            self._free()


def too_small_text(error: torch.OutOfMemoryError) -> str:
    """Return the error message for a share of a GPU that is too small for a single frame."""
    return (
        "--gpus-per-cnn-worker (--gpus of serve) must be a larger share of a GPU: the worker's share of its memory "
        f"does not hold the backbone and one frame ({str(error).splitlines()[0]})"
    )


class OnGpu:
    """A backbone on a GPU with upload of frames: frames [T, H, W, 3] uint8 in, features [T, D] float32 out."""

    def __init__(self, network: Backbone, convolutions: str) -> None:
        """`network`: the backbone. `convolutions`: how cuDNN computes convolutions, a value of `CONVOLUTIONS`."""
        self._network = network
        self._convolutions = convolutions
        self._device = network.scale.device
        self._uploads = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side = network.model.side
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
        # The slots may reuse the memory of tensors that the default stream has yet to read.
        self._uploads.wait_stream(torch.cuda.current_stream(self._device))
        self._halving = Halving(self._embed, FRAMES_PER_GPU_BATCH, self._free)

    @property
    def frames_per_batch(self) -> int:
        """Number of frames that are computed at once now; smaller after memory ran out."""
        return self._halving.num_frames

    def __call__(self, frames_THWC: Frames) -> Features:
        with convolutions_in(self._convolutions):
            return self._halving(frames_THWC)

    @torch.inference_mode()
    def _embed(self, frames_THWC: Frames, num_frames: int) -> Features:
        compute = torch.cuda.current_stream(self._device)
        features = []
        for number, chunk in enumerate(torch.split(torch.from_numpy(frames_THWC), num_frames)):
            slot = self._slots[number % len(self._slots)]
            slot.copied.synchronize()
            slot.pinned[: len(chunk)].copy_(chunk)
            with torch.cuda.stream(self._uploads):
                slot.read.wait(self._uploads)
                slot.on_gpu[: len(chunk)].copy_(slot.pinned[: len(chunk)], non_blocking=True)
                slot.copied.record(self._uploads)
            slot.copied.wait(compute)
            features.append(self._network.embed(slot.on_gpu[: len(chunk)]))
            slot.read.record(compute)
        features_TD: Features = torch.cat(features).float().cpu().numpy()
        return features_TD

    def _free(self) -> None:
        # Kernels of the failed batch may still read its slot, and no event tells when they are done.
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()


@contextmanager
def convolutions_in(precision: str) -> Iterator[None]:
    """Context in which cuDNN computes float32 convolutions as `precision` says, a value of `CONVOLUTIONS`.

    When the context ends, the former setting is restored.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = precision
    try:
        yield
    finally:
        convolutions.fp32_precision = before
