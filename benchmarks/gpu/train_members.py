"""Time and GPU memory of four ensemble members that train at once on one GPU, compared with a single member.

    python benchmarks/gpu/train_members.py --results OUT/results.jsonl [--small]

Members of full size (65 million parameters) train on 2,600 synthetic videos with features of 73 frames × 1280. Each
member has its own process and a quarter of the GPU, as in `jobs/train.py`. The results are:

- `members at once: 1` and `members at once: 4`: `epoch_s` is the median time of an epoch while all members train. It
  leaves out the first epoch, in which cuDNN selects algorithms. `peak_bytes` is the peak of GPU memory,
  `estimated_bytes` the estimate from which `jobs/train.py` chooses `placement`: whether the features are in GPU memory,
  and in how many parts a batch is computed;
- `members`: `epoch_ratio_of_four_to_one` is the time of an epoch with four members divided by that with one.
  `seconds_of_150_epochs` is the time that four members would take for 150 epochs. The fields `goal` and `goal_s` state
  what is wanted.

`--small` tests the script with a tiny model on the CPU.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.gpu import results
from benchmarks.gpu.results import GpuWatch
from vidclf import device, torch_gpu
from vidclf.config import FitConfig
from vidclf.training import gpu_memory
from vidclf.training.dataset import Sequences, TrainingData
from vidclf.training.member_fit import MemberFit
from vidclf.training.state_writer import StateWriter

NUM_MEMBERS = 4
CLASSES = ["A", "B", "C", "D"]


def main() -> None:
    arguments = results.parser(__doc__).parse_args()
    num_epochs = 3 if arguments.small else 5
    frames = {"num_videos": 60, "num_frames": 8} if arguments.small else {"num_videos": 2600, "num_frames": 73}
    config = FitConfig(epochs=num_epochs, patience=num_epochs)
    if arguments.small:
        config = dataclasses.replace(config, hidden_dim=8, num_attention_heads=2, classifier_dims=(8,))
    seconds = {}
    for count in (1, NUM_MEMBERS):
        with GpuWatch() as watch:
            members = together(count, frames, config)
        seconds[count] = statistics.median(member["epoch_s"] for member in members)
        figures = {**members[0], "epoch_s": round(seconds[count], 3)}
        results.add(arguments.results, f"members at once: {count}", **figures, **watch.figures())
    results.add(
        arguments.results,
        "members",
        num_train_videos=frames["num_videos"],
        epoch_ratio_of_four_to_one=round(seconds[NUM_MEMBERS] / seconds[1], 2),
        goal="at most 1.3",
        seconds_of_150_epochs=round(150 * seconds[NUM_MEMBERS], 1),
        goal_s=300,
    )


def together(count: int, frames: dict[str, int], config: FitConfig) -> list[dict[str, Any]]:
    """Figures of each of `count` members that train at the same time, one dict per member."""
    context = multiprocessing.get_context("spawn")
    begin, figures_queue = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=member, args=(seed, 1 / NUM_MEMBERS, frames, config, begin, figures_queue))
        for seed in range(count)
    ]
    for process in processes:
        process.start()
    figures = [figures_queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return figures


def member(seed: int, share: float, frames: dict[str, int], config: FitConfig, begin: Any, figures_queue: Any) -> None:
    """Train one member in this process on its share of the GPU, and put its figures into the queue `figures_queue`.

    Training starts when all members have reached the barrier `begin`. The state of the model is copied and serialized
    as in a job.
    """
    torch.set_num_threads(1)
    where = torch_gpu.take_share(share)
    data = synthetic(**frames)
    sizes = gpu_memory.member_memory(config, data)
    placement = gpu_memory.placement_on(where, "--gpus-per-member", share, config, data)
    fit = MemberFit(data, config, seed, where, placement)
    begin.wait()
    started = time.perf_counter()
    with StateWriter(lambda snapshot: torch.save(snapshot, "/dev/null")) as states:
        while not fit.is_done:
            fit.run_epoch()
            states.offer(fit.snapshot)
    is_on_gpu = where.type == "cuda"
    figures_queue.put(
        {
            "precision": torch_gpu.precision(where.type),
            "num_parameters": sum(tensor.numel() for tensor in fit.result().state.values()),
            "placement": placement.text,
            "epoch_s": statistics.median(epoch.duration_s for epoch in list(fit.history)[1:]),
            "total_s": round(time.perf_counter() - started, 2),
            "estimated_bytes": sizes.needed_bytes(placement),
            "peak_bytes": torch.cuda.max_memory_allocated(where) if is_on_gpu else None,
            "reserved_bytes": torch.cuda.max_memory_reserved(where) if is_on_gpu else None,
            "context_bytes": device.CONTEXT_BYTES,
        }
    )


def synthetic(num_videos: int, num_frames: int) -> TrainingData:
    """Synthetic features of classes with different means: `num_videos` to train on, a fifth as many to validate."""
    generator = np.random.default_rng(0)
    means_CD = generator.normal(0, 0.2, (len(CLASSES), 1280)).astype(np.float32)

    def split(number: int) -> Sequences:
        labels = [index % len(CLASSES) for index in range(number)]
        noise_BTD = (generator.standard_normal((num_frames, 1280), np.float32) for _ in labels)
        features = [
            (means_CD[label] + noise_TD).astype(np.float16) for label, noise_TD in zip(labels, noise_BTD, strict=True)
        ]
        return Sequences.of(features, labels)

    return TrainingData(classes=CLASSES, train=split(num_videos), val=split(num_videos // 5))


if __name__ == "__main__":
    main()
