"""Training of the members in parallel, one Ray Train run per member. [Ray Train]"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from vidclf import ray_cluster, storage
from vidclf.config import TrainConfig
from vidclf.ensemble import files
from vidclf.progress import ProgressLine
from vidclf.tally import Tally, watch
from vidclf.training import tracking
from vidclf.training.dataset import TrainingData
from vidclf.training.member_fit import Epoch, MemberFit
from vidclf.training.member_plan import MemberPlan
from vidclf.training.publish import marker
from vidclf.training.tracking import Tracker

RAY_TRAIN_DIR = "_ray_train"

STATE_DIR = "_state"
"""Of members that are not finished: weights, optimizer and history after their last epoch."""

MAX_FAILURES = 2
"""Restarts of a member whose worker or node died, before the job gives up on it."""


def train_members(config: TrainConfig, data: list[TrainingData], members: list[MemberPlan], missing: list[int]) -> None:
    resources = ray_cluster.connect()
    if config.mlflow is not None:
        tracking.mlflow_experiment(tracking.mlflow_client(config.mlflow), config)
    gpus = config.gpus_per_member if resources.num_gpus else 0.0
    # No more CPU than the machine has with one left for Ray Train's controllers.
    cpus = min(config.cpus_per_member, max(resources.num_cpus - 1, 0.5) / len(missing))
    tally = Tally.start()
    # One copy in each node's object store, which its members share.
    data_refs = [ray.put(own) for own in data]
    total = len(missing) * config.epochs
    line = ProgressLine("epochs", total, f"epochs of {len(missing)} members")

    def run(index: int) -> None:
        TorchTrainer(
            _train_member,
            train_loop_config={
                "index": index,
                "config": config,
                "member": members[index],
                "data": [data_refs[members[index].space]],
                "gpus": gpus,
                "tally": tally,
            },
            scaling_config=ScalingConfig(
                num_workers=1, use_gpu=gpus > 0, resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})}
            ),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                name=f"member_{index}-{members[index].recipe[:16]}",
                storage_path=storage.join(config.output, RAY_TRAIN_DIR),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()

    with watch(tally, line, _shown), ThreadPoolExecutor(len(missing)) as pool:
        for future in [pool.submit(run, index) for index in missing]:
            future.result()


def _train_member(loop: dict[str, Any]) -> None:
    """Ray Train's worker function: fit one member, publish it, then its marker.

    The member's state is published after every epoch, and whoever runs it next, Ray Train after a
    crash or the job submitted again, takes up there.
    """
    config: TrainConfig = loop["config"]
    planned: MemberPlan = loop["member"]
    index, tally, device = loop["index"], loop["tally"], get_device()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        # A member that would take more than its share fails, rather than those beside it.
        torch.cuda.set_per_process_memory_fraction(min(loop["gpus"], 1.0), device)
    data: TrainingData = ray.get(loop["data"][0])
    fit = MemberFit(data, config, config.seed + index, device)
    state = _state_file(config.output, index, planned.recipe)
    if storage.exists(state):
        fit.restore(storage.read_bytes(state))
    with Tracker(config.output, index, config, len(fit.history)) as tracker:
        for epoch in fit.history:
            tracker.log(epoch, data.classes)
        while not fit.is_done:
            epoch = fit.run_epoch()
            storage.publish_bytes(state, fit.checkpoint())
            tracker.log(epoch, data.classes)
            tally.put.remote(f"epochs of {index}", epoch.number)
            tally.put.remote(f"member {index}", epoch.val_macro_f1)
            tally.say.remote(_line(index, epoch, fit, config))
    tally.put.remote(f"epochs of {index}", config.epochs)  # early stopping: the rest is not owed
    fitted = fit.result()
    digest = files.write_member(config.output, index, fitted.state)
    member = {
        "file": files.member_file(index),
        "backbone": planned.backbone,
        "num_parameters": sum(tensor.numel() for tensor in fitted.state.values()),
        "seed": config.seed + index,
        "digest": digest,
        "recipe": planned.recipe,
        "attempts": fitted.num_attempts,
        "epochs": len(fitted.history),
        "duration_s": sum(epoch.duration_s for epoch in fitted.history),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        "best": asdict(fitted.best),
    }
    history = [asdict(epoch) for epoch in fitted.history]
    storage.publish_json(marker(config.output, index), {"member": member, "history": history})
    storage.delete_file(state)
    ray.train.report({"val_macro_f1": fitted.best.val_macro_f1})


def _line(index: int, epoch: Epoch, fit: MemberFit, config: TrainConfig) -> str:
    """What a log shows of an epoch; the time left is that to the last epoch, if nothing stops it before."""
    left_s = (config.epochs - epoch.number) * epoch.duration_s
    again = f" of attempt {epoch.attempt}" if epoch.attempt > 1 else ""
    return (
        f"member {index}: epoch {epoch.number}/{config.epochs}{again}, loss {epoch.train_loss:.3f}, validation loss "
        f"{epoch.val_loss:.3f}, accuracy {epoch.val_accuracy:.3f}, macro F1 {epoch.val_macro_f1:.3f} "
        f"(best {fit.best.val_macro_f1:.3f} at {fit.best.number}), {epoch.duration_s:.1f} s, at most {left_s:.0f} s "
        "left"
    )


def _state_file(output: str, index: int, recipe: str) -> str:
    return storage.join(output, STATE_DIR, f"member_{index}-{recipe[:16]}.pt")


def _shown(counts: dict[str, float]) -> tuple[int, str]:
    scores = [f"{value:.2f}" for name, value in sorted(counts.items()) if name.startswith("member")]
    epochs = sum(value for name, value in counts.items() if name.startswith("epochs of"))
    return int(epochs), f"macro F1 on validation {' '.join(scores)}" if scores else ""
