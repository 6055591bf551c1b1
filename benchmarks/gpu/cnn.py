"""Frames per second of the CNNs on a GPU: the engine of vidclf, plain torch loops, and the peak rate of the GPU.

    python benchmarks/gpu/cnn.py --results results.jsonl [--small]

The peak rate is measured too: floating point operations per second of a product of two square bfloat16 matrices. The
result `roofline_share` of a CNN is its frames per second times the operations per frame, divided by the peak rate. A
multiplication and an addition count as two operations. CNNs with depthwise convolutions cannot come near 1, because
memory limits them.

For each CNN the field `how` has one of these ways to compute:

- engine bf16, engine fp32: the engine of vidclf. It starts from 8-bit frames in main memory, as a CNN worker does;
- plain bf16 channels_last, CUDA graph, torch.compile: torch alone. The frames are already on the GPU in bfloat16.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import results
from vidclf import device
from vidclf.backbones import cnn, torch_engine
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights

BACKBONES = (("resnet50", "random"), ("efficientnet_v2_s", "random"), ("efficientnet_lite0", "DEFAULT"))


def main() -> None:
    arguments = results.parser(__doc__).parse_args()
    own_device = device.claim(1.0)
    seconds = 0.2 if arguments.small else 3.0
    peak = matrix_rate(own_device, 512 if arguments.small else 8192, seconds)
    results.add(arguments.results, "matrix_bf16", tflops=round(peak / 1e12, 1))
    chosen = BACKBONES[2 if arguments.small else 0 :]
    # torch.compile comes last: it takes long and needs a C compiler, which a bare machine may lack.
    ways = [(backbone, compiles) for compiles in (False, True)[: 1 if arguments.small else 2] for backbone in chosen]
    for (name, weights), compiles in ways:
        state = load_weights(name, weights)
        network = cnn.build(resolve(name, weights), state, str(own_device))
        flops = flops_of(network, network.model.side)
        batch = 4 if arguments.small else torch_engine.FRAMES_PER_GPU_BATCH
        for how, rate in rates(name, weights, network, batch, seconds, compiles=compiles):
            share = round(rate * flops / peak, 3)
            results.add(arguments.results, f"cnn_{name}", how=how, frames_per_s=round(rate, 1), roofline_share=share)


def rates(
    name: str, weights: str, network: Backbone, batch: int, seconds: float, *, compiles: bool
) -> Iterator[tuple[str, float]]:
    """Pairs of a way to compute (text) and its frames per second; only torch.compile if `compiles`, else all others."""
    own_device, side = network.scale.device, network.model.side
    frames_THWC = np.random.default_rng(0).integers(0, 256, (2 * batch, side, side, 3), np.uint8)
    state = load_weights(name, weights)
    precisions = ("bf16", "fp32") if own_device.type == "cuda" else ("fp32",)
    for precision in () if compiles else precisions:
        run = partial(torch_engine.load(network.model, state, own_device.type, precision).run, frames_THWC)
        yield f"engine {precision}", rate_of(run, len(frames_THWC), seconds)
    trunk = torch_engine.in_bf16(network).trunk
    pixels = torch.rand(batch, 3, side, side, device=own_device)
    pixels = pixels.to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.inference_mode():
        if compiles:
            yield "torch.compile", rate_of(partial(torch.compile(trunk, dynamic=False), pixels), batch, seconds)
            return
        yield "plain bf16 channels_last", rate_of(partial(trunk, pixels), batch, seconds)
        if own_device.type == "cuda":
            yield "CUDA graph", rate_of(graphed(trunk, pixels), batch, seconds)


def rate_of(call: Callable[[], object], count: int, seconds: float) -> float:
    """Items per second of `call`, which processes `count` items. Three calls before the measurement warm up.

    Libraries choose kernels and compile in the first calls.
    """
    for _ in range(3):
        call()
    synchronize()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        call()
        calls += 1
        if calls % 8 == 0:
            synchronize()  # otherwise calls queue up and the measurement ends late
    synchronize()
    return calls * count / (time.perf_counter() - started)


def synchronize() -> None:
    """Wait until the GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(own_device: str, size: int, seconds: float) -> float:
    """Floating point operations per second of a product of two bfloat16 matrices of `size` rows and columns."""
    matrix = torch.rand(size, size, device=own_device, dtype=torch.bfloat16)
    return rate_of(lambda: matrix @ matrix, 2 * size**3, seconds)


def flops_of(network: Backbone, side: int) -> float:
    """Floating point operations of a CNN for one frame of `side` × `side` pixels."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.embed(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=network.scale.device))
    return float(counter.get_total_flops())


def graphed(trunk: torch.nn.Module, pixels: torch.Tensor) -> Callable[[], object]:
    """A function that replays the GPU kernels of the CNN for one batch, recorded here as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            trunk(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trunk(pixels)
    return graph.replay


if __name__ == "__main__":
    main()
