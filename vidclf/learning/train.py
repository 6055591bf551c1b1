"""Training the ensemble's members in parallel, each in its own Ray Train run. [Ray Train]

One run a member, not one run with a rank a member: a member that fails restarts alone, and a small
cluster trains them in turns instead of waiting for room for all.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from vidclf import cluster, storage
from vidclf.config import ConfigError, FitConfig, ModelConfig, TrainConfig
from vidclf.features.store import FeatureSet
from vidclf.learning import ensemble
from vidclf.learning.calibrate import calibrate
from vidclf.learning.dataset import TrainingData, training_data
from vidclf.learning.ensemble import EnsembleInfo
from vidclf.learning.fit import Epoch, fit_member
from vidclf.learning.model import TemporalClassifier, num_parameters
from vidclf.progress import ProgressLine

RAY_TRAIN_DIR = "_ray_train"
MAX_FAILURES = 2
"""Restarts of a member whose worker or node died, before the job gives up on it."""


def train(config: TrainConfig, features: FeatureSet, weights: str) -> dict[str, Any] | None:
    """Train the members that `config.output` lacks, calibrate, and publish the ensemble.

    Returns a summary, or None after a dry run. Raises ConfigError before any work starts where
    the features cannot be trained on or the directory holds another ensemble's members.
    """
    # Workers have other working directories, so the output's location must not be relative.
    config = replace(config, output=storage.canonical(config.output))
    data = training_data(features)
    recipe = _recipe(config, features, data)
    _refuse_foreign(config.output)
    if config.overwrite and not config.dry_run:
        storage.delete_tree(config.output)
    finished = [] if config.overwrite else _finished_members(config, recipe)
    missing = [index for index in range(config.members) if index not in finished]
    if config.dry_run:
        print(f"would train members {missing} of {config.members} into {config.output}")
        return None
    ensemble_file = storage.join(config.output, ensemble.ENSEMBLE_FILE)
    if missing or not storage.exists(ensemble_file):
        if storage.exists(ensemble_file):
            storage.delete_file(ensemble_file)
        storage.create_dir(config.output)
        if missing:
            _train_members(config, data, recipe, missing)
        _publish(config, features, data, weights)
    info = ensemble.read_info(config.output)
    return {"num_trained": len(missing), **info.training, "members": info.members, "ensemble_id": info.ensemble_id}


def _train_members(config: TrainConfig, data: TrainingData, recipe: str, missing: list[int]) -> None:
    resources = cluster.connect()
    gpus = config.gpus_per_member if resources.num_gpus else 0.0
    # No more CPU than the machine has with one left for Ray Train's controllers.
    cpus = min(config.cpus_per_member, max(resources.num_cpus - 1, 0.5) / len(missing))
    tally = cluster.Tally.start()
    data_ref = ray.put(data)
    total = len(missing) * config.epochs
    line = ProgressLine("epochs", total, f"epochs of {len(missing)} members")

    def run(index: int) -> None:
        TorchTrainer(
            _train_member,
            train_loop_config={
                "index": index,
                "config": config,
                "recipe": recipe,
                "data": [data_ref],
                "tally": tally,
            },
            scaling_config=ScalingConfig(
                num_workers=1, use_gpu=gpus > 0, resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})}
            ),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                name=f"member_{index}-{recipe[:16]}",
                storage_path=storage.join(config.output, RAY_TRAIN_DIR),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()

    with cluster.watch(tally, line, _shown), ThreadPoolExecutor(len(missing)) as pool:
        for future in [pool.submit(run, index) for index in missing]:
            future.result()


def _train_member(loop: dict[str, Any]) -> None:
    """Ray Train's worker function: fit one member, publish it, then its marker."""
    config: TrainConfig = loop["config"]
    index, tally = loop["index"], loop["tally"]
    data: TrainingData = ray.get(loop["data"][0])
    counted = 0

    def on_epoch(epoch: Epoch) -> None:
        nonlocal counted
        counted += 1
        tally.add.remote({"epochs": 1})
        tally.put.remote(f"member {index}", epoch.val_macro_f1)

    fitted = fit_member(data, config, config.seed + index, get_device(), on_epoch)
    tally.add.remote({"epochs": config.epochs - counted})  # early stopping: the rest is not owed
    digest = ensemble.write_member(config.output, index, fitted.state)
    member = {
        "file": ensemble.member_file(index),
        "seed": config.seed + index,
        "digest": digest,
        "recipe": loop["recipe"],
        "epochs": len(fitted.history),
        "best": asdict(fitted.best),
    }
    history = [asdict(epoch) for epoch in fitted.history]
    storage.publish_json(_marker(config.output, index), {"member": member, "history": history})
    ray.train.report({"val_macro_f1": fitted.best.val_macro_f1})


def _publish(config: TrainConfig, features: FeatureSet, data: TrainingData, weights: str) -> None:
    members = [storage.read_json(_marker(config.output, index))["member"] for index in range(config.members)]
    model = ModelConfig(**{field.name: getattr(config, field.name) for field in fields(ModelConfig)})
    training = {
        "num_train_videos": len(data.train.labels),
        "num_val_videos": len(data.val.labels),
        "num_parameters": num_parameters(TemporalClassifier(data.feature_dim, len(data.classes), config)),
    }
    uncalibrated = EnsembleInfo(
        classes=data.classes,
        feature_spec=features.spec,
        weights=weights,
        model=model,
        members=members,
        training=training,
    )
    ensemble.write_info(config.output, calibrate(config.output, uncalibrated, features))


def _recipe(config: TrainConfig, features: FeatureSet, data: TrainingData) -> str:
    """Digest of everything but the member's index that decides its weights."""
    recipe = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
    videos = hashlib.sha256(
        "".join(f"{v}{s}" for v, s in zip(features.video_ids, features.splits, strict=True)).encode()
    )
    recipe.update(feature_key=features.spec.key, classes=data.classes, videos=videos.hexdigest())
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _refuse_foreign(output: str) -> None:
    """ConfigError where the output directory holds files and none of an ensemble's, whatever the flags."""
    names = [path.removeprefix(output).lstrip("/") for path in storage.list_files(output, recursive=True)]
    if names and not any(name.startswith(("member_", RAY_TRAIN_DIR)) for name in names):
        raise ConfigError(
            f"--output {output}: must be empty or an ensemble to continue or to overwrite, holds {names[0]}"
        )


def _finished_members(config: TrainConfig, recipe: str) -> list[int]:
    """Members that are published; ConfigError where one was trained by another recipe."""
    finished = []
    for index in range(config.members):
        if not storage.exists(_marker(config.output, index)):
            continue
        if storage.read_json(_marker(config.output, index))["member"]["recipe"] != recipe:
            raise ConfigError(
                f"--output {config.output}: member {index} was trained on other features or with other settings; "
                "choose another directory or --overwrite"
            )
        finished.append(index)
    return finished


def _marker(output: str, index: int) -> str:
    return storage.join(output, f"member_{index}.json")


def _shown(counts: dict[str, float]) -> tuple[int, str]:
    scores = [f"{value:.2f}" for name, value in sorted(counts.items()) if name.startswith("member")]
    return int(counts.get("epochs", 0)), f"macro F1 on validation {' '.join(scores)}" if scores else ""
