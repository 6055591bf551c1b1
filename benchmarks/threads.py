"""A process for each core with one thread, against one process with a thread for each core.

    python benchmarks/threads.py [--backbones resnet50,efficientnet_lite0] [--seconds 10] [--rounds 3]

The CNN alone, in OpenVINO and the precision that extract takes, on 73 frames at a time as a video has; random
weights. Frames a second of all processes together, in turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.machine import describe
from vidclf.backbones import openvino_engine, weights
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.openvino_engine import OpenVinoModel

NUM_FRAMES = 73


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="resnet50,efficientnet_v2_s,efficientnet_lite0")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    print(describe("openvino"), "\n")
    print("| frames/s | a process a core, one thread | one process, a thread a core | ratio |\n|---|---|---|---|")
    for name in arguments.backbones.split(","):
        network = convert(name, "random", weights.load_weights(name, "random"))
        rates: dict[int, list[float]] = {1: [], cores: []}
        for _ in range(arguments.rounds):
            for num_threads, found in rates.items():
                found.append(measure(network, cores // num_threads, num_threads, arguments.seconds))
        apart, together = (statistics.median(found) for found in rates.values())
        print(f"| {name} | {apart:.1f} | {together:.1f} | {apart / together:.2f} |", flush=True)


def measure(network: OpenVinoModel, num_processes: int, num_threads: int, seconds: float) -> float:
    spawn = multiprocessing.get_context("spawn")
    ready, counts = spawn.Barrier(num_processes), spawn.Queue()
    processes = [
        spawn.Process(target=work, args=(network, num_threads, seconds, ready, counts)) for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    total = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def work(network: OpenVinoModel, num_threads: int, seconds: float, ready: Any, counts: Any) -> None:
    """Frames a second of one process."""
    openvino_engine.THREADS = num_threads
    cnn = openvino_engine.openvino_engine(network, "bf16" if openvino_engine.has_bf16() else "fp32")
    frames_THWC = np.tile(network.probe_THWC, (NUM_FRAMES // len(network.probe_THWC) + 1, 1, 1, 1))[:NUM_FRAMES]
    cnn.run(frames_THWC)
    ready.wait()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        cnn.run(frames_THWC)
        done += len(frames_THWC)
    counts.put(done / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
