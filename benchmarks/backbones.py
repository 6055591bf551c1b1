"""CPU time per frame of vision transformers and CNNs, in OpenVINO and in torch, each with one thread.

    python benchmarks/backbones.py [--backbones timm/vit_tiny_patch16_224,resnet50] [--frames 16] [--rounds 3]

Needs the extra `timm`. Random weights take the same time as trained ones. The ways take turns in every round, and the
figures are medians over the rounds. They are CPU time, not wall time, because other processes may share the machine.

The output is a table with one row per backbone: milliseconds per frame, and how many times longer torch takes than
OpenVINO in bf16. Standard error names the agreement (mean cosine of centred features of photographs) with torch in
fp32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.machine import describe
from vidclf.backbones import openvino_engine, torch_engine
from vidclf.backbones.agreement import Frames, agreement
from vidclf.backbones.engine import Engine
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import read_weights

BACKBONES = (
    *("timm/vit_tiny_patch16_224", "timm/vit_small_patch16_224", "timm/vit_base_patch16_224"),
    *("efficientnet_lite0", "resnet50", "timm/convnext_tiny"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default=",".join(BACKBONES), help="separated by commas")
    parser.add_argument("--frames", type=int, default=16, help="number of frames per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the figures are medians over them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    half = "bf16" if openvino_engine.has_bf16() else "fp32"
    print(describe("openvino"), "\n")
    print(
        f"| ms per frame | features | side | OpenVINO {half} | OpenVINO fp32 | torch fp32 | torch / OpenVINO {half} |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.backbones.split(","):
        model = resolve(name, "random")
        state = read_weights(model)
        network = convert(model, state)
        engines = [
            openvino_engine.openvino_engine(network, half),
            openvino_engine.openvino_engine(network, "fp32"),
            torch_engine.load(model, state, "cpu", "fp32"),
        ]
        frames_THWC = np.resize(network.probe_THWC, (arguments.frames, *network.probe_THWC.shape[1:]))
        rounds = [[seconds(engine, frames_THWC) for engine in engines] for _ in range(arguments.rounds)]
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        fast, full, in_torch = (1000 * median / arguments.frames for median in medians)
        print(
            f"| `{name}` | {model.feature_dim} | {model.side} | {fast:.1f} | {full:.1f} | {in_torch:.1f} | "
            f"{in_torch / fast:.1f} |",
            flush=True,
        )
        exact_TD = engines[2].run(network.probe_THWC)
        for engine in engines[:2]:
            cosine = agreement(engine.run(network.probe_THWC), exact_TD)
            print(f"{name}: {engine.name} agrees with torch fp32 by {cosine:.4f}", file=sys.stderr)


def seconds(engine: Engine, frames_THWC: Frames) -> float:
    """CPU seconds of this process for the features of `frames_THWC`."""
    started = time.process_time()
    engine.run(frames_THWC)
    return time.process_time() - started


if __name__ == "__main__":
    main()
