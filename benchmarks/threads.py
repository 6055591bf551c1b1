"""CNN speed of one single-threaded process per core compared with one process that has a thread per core.

    python benchmarks/threads.py [--backbones resnet50,efficientnet_lite0] [--seconds 10] [--rounds 3]

Only the CNN is measured: in OpenVINO, with the precision that `jobs/extract.py` uses on this CPU, with random weights
and 73 frames per call (the frames of one video). The two ways take turns in every round.

The output is a table with one row per backbone: frames per second of all processes together, as medians over the
rounds, for both ways, and the ratio of the first to the second.
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
from vidclf.backbones.resolve import resolve

NUM_FRAMES = 73


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backbones", default="resnet50,efficientnet_v2_s,efficientnet_lite0", help="separated by commas"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the figures are medians over them")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    print(describe("openvino"), "\n")
    print("| frames/s | a process a core, one thread | one process, a thread a core | ratio |\n|---|---|---|---|")
    for name in arguments.backbones.split(","):
        network = convert(resolve(name, "random"), weights.load_weights(name, "random"))
        rates: dict[int, list[float]] = {1: [], cores: []}
        for _ in range(arguments.rounds):
            for num_threads, found in rates.items():
                found.append(measure(network, cores // num_threads, num_threads, arguments.seconds))
        apart, together = (statistics.median(found) for found in rates.values())
        print(f"| {name} | {apart:.1f} | {together:.1f} | {apart / together:.2f} |", flush=True)


def measure(network: OpenVinoModel, num_processes: int, num_threads: int, seconds: float) -> float:
    """Frames per second of `num_processes` processes together, each with `num_threads` threads."""
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
    """Work of one process: wait for the others, run the CNN for `seconds` and put its frames per second into
    `counts`."""
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
