"""Training the ensemble's members in parallel, each in its own Ray Train run. [Ray Train]

One run a member, not one run with a rank a member: a member that fails restarts alone, and a small
cluster trains them in turns instead of waiting for room for all.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

import vidclf
from vidclf import cluster, storage
from vidclf.config import ConfigError, FitConfig, ModelConfig, TrainConfig
from vidclf.features import beside
from vidclf.features.store import FeatureSet
from vidclf.learning import cascade, ensemble, leakage, metrics, reference, tracking
from vidclf.learning.calibrate import calibrate
from vidclf.learning.dataset import Batches, TrainingData, training_data
from vidclf.learning.ensemble import EnsembleInfo, FittedBackbone
from vidclf.learning.fit import Epoch, MemberFit, predict
from vidclf.learning.model import TemporalClassifier, num_parameters
from vidclf.learning.reference import ReferenceEnsemble
from vidclf.progress import ProgressLine

RAY_TRAIN_DIR = "_ray_train"
STATE_DIR = "_state"
"""Of members that are not finished: weights, optimizer and history after their last epoch."""
MAX_FAILURES = 2
"""Restarts of a member whose worker or node died, before the job gives up on it."""


def train(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    weights: Sequence[str],
    first_looks: Sequence[FeatureSet] = (),
) -> dict[str, Any] | None:
    """Train the members that `config.output` lacks, or import them, calibrate, and publish the ensemble.

    `features` are those of `config.features`, each with where its backbone's `weights` were, `first_looks`
    those of `config.first_look`. Near duplicates are looked for in the first.

    Returns a summary, or None after a dry run. Raises ConfigError before any work starts where
    the features cannot be trained on or the directory holds another ensemble's members.
    """
    # Workers have other working directories, so the output's location must not be relative.
    config = replace(config, output=storage.canonical(config.output))
    beside.check_sets(config.features, features)
    division = leakage.divide(features[0], config)
    divided = division.features
    features = [replace(own, groups=divided.groups, splits=divided.splits) for own in features]
    looks = [
        beside.first_look(location, look, own)
        for location, look, own in zip(config.first_look, first_looks, features[: len(first_looks)], strict=True)
    ]
    imported: ReferenceEnsemble | None = None
    classes: list[str] | None = None
    if config.import_reference is not None:
        imported = reference.read(config.import_reference)
        classes = _reference_classes(config, imported, divided)
        config = replace(config, members=len(imported.checkpoints), **vars(imported.model))
    data = [training_data(own, classes) for own in features]
    members = plan_members(config, features, data, imported)
    _refuse_foreign(config.output)
    if config.mlflow is not None:
        tracking.check_mlflow(config.mlflow)
    if config.overwrite and not config.dry_run:
        storage.delete_tree(config.output)
    finished = [] if config.overwrite else _finished_members(config, members)
    missing = [index for index in range(config.members) if index not in finished]
    print(division.summary)
    if config.dry_run:
        verb = "train" if imported is None else "import"
        print(f"would {verb} members {missing} of {config.members} into {config.output}")
        return None
    ensemble_file = storage.join(config.output, ensemble.ENSEMBLE_FILE)
    calibrates = bool(missing) or not storage.exists(ensemble_file) or not _is_calibrated(config.output, looks)
    if calibrates:
        if storage.exists(ensemble_file):
            storage.delete_file(ensemble_file)
        storage.create_dir(config.output)
        division.publish(config.output)
        if missing and imported is not None:
            _import_members(config, data[0], imported, members, missing)
        elif missing:
            _train_members(config, data, members, missing)
        publish_ensemble(config, features, data[0], weights, looks)
    info = ensemble.read_info(config.output)
    return {
        "num_trained": len(missing),
        "was_calibrated": calibrates,
        **info.training,
        "members": info.members,
        "ensemble_id": info.ensemble_id,
    }


def _reference_classes(config: TrainConfig, imported: ReferenceEnsemble, features: FeatureSet) -> list[str]:
    """The imported members' classes; ConfigError where they or the features are not those of the members."""
    if imported.feature_dim != features.spec.feature_dim:
        raise ConfigError(
            f"--import-reference {config.import_reference}: was trained on {imported.feature_dim} features a frame, "
            f"{config.features[0]} holds {features.spec.feature_dim} ({features.spec.backbone}); extract with its "
            "backbone"
        )
    labels = {label for label in features.labels if label is not None}
    return reference.class_names(config.reference_classes, imported.num_classes, labels)


def _import_members(
    config: TrainConfig,
    data: TrainingData,
    imported: ReferenceEnsemble,
    members: list[MemberPlan],
    missing: list[int],
) -> None:
    """Publish checkpoints of the reference system as members, with their scores on validation."""
    cpu = torch.device("cpu")
    for index in missing:
        checkpoint = imported.checkpoints[index]
        model = TemporalClassifier(data.feature_dim, len(data.classes), config)
        model.load_state_dict(checkpoint.state)
        predicted_B = predict(model, Batches(data.val, cpu), config.batch_size, cpu).argmax(dim=1)
        measured = metrics.evaluate(data.val.labels, predicted_B.tolist(), data.classes)
        member = {
            "file": ensemble.member_file(index),
            "backbone": members[index].backbone,
            "num_parameters": num_parameters(model),
            "digest": ensemble.write_member(config.output, index, checkpoint.state),
            "recipe": members[index].recipe,
            "imported_from": checkpoint.file,
            "best": {
                "val_accuracy": measured.accuracy,
                "val_macro_f1": measured.macro_f1,
                "val_weighted_f1": measured.weighted_f1,
                "val_f1": [measured.per_class[name].f1 for name in data.classes],
            },
        }
        storage.publish_json(marker(config.output, index), {"member": member, "history": []})


def _train_members(
    config: TrainConfig, data: list[TrainingData], members: list[MemberPlan], missing: list[int]
) -> None:
    resources = cluster.connect()
    if config.mlflow is not None:
        tracking.mlflow_experiment(tracking.mlflow_client(config.mlflow), config)
    gpus = config.gpus_per_member if resources.num_gpus else 0.0
    # No more CPU than the machine has with one left for Ray Train's controllers.
    cpus = min(config.cpus_per_member, max(resources.num_cpus - 1, 0.5) / len(missing))
    tally = cluster.Tally.start()
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

    with cluster.watch(tally, line, _shown), ThreadPoolExecutor(len(missing)) as pool:
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
    with tracking.Tracker(config.output, index, config, len(fit.history)) as tracker:
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
    digest = ensemble.write_member(config.output, index, fitted.state)
    member = {
        "file": ensemble.member_file(index),
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


def publish_ensemble(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: TrainingData,
    weights: Sequence[str],
    first_looks: Sequence[FeatureSet] = (),
) -> None:
    """Calibrate the members whose markers `config.output` holds, and publish `ensemble.json`; features, where
    the weights are, and the first look, if there is one, of each backbone."""
    members = [storage.read_json(marker(config.output, index))["member"] for index in range(config.members)]
    model = ModelConfig(**{field.name: getattr(config, field.name) for field in fields(ModelConfig)})
    training = {
        "num_train_videos": len(data.train.labels),
        "num_val_videos": len(data.val.labels),
        "data_digest": data_digest(features),
        "recipe": config.recipe if config.import_reference is None else "imported",
    }
    uncalibrated = EnsembleInfo(
        classes=data.classes,
        backbones=[FittedBackbone.of(own.spec, where) for own, where in zip(features, weights, strict=True)],
        model=model,
        members=members,
        training=training,
        versions={
            "vidclf": vidclf.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "ray")},
        },
    )
    ensemble.write_info(config.output, calibrate(config.output, uncalibrated, features, first_looks or None))


def _is_calibrated(output: str, first_looks: Sequence[FeatureSet]) -> bool:
    """Whether a published ensemble is whole, as this version calibrates it and with the first look that is asked for;
    any or none will do where none is. ConfigError where a look that it has would be lost with the calibration."""
    info = ensemble.read_info(output)
    fitted = info.stages.get(cascade.KEYFRAMES, {"feature_specs": []})
    try:
        ensemble.read_trust(output, info)
    except ConfigError as error:
        if fitted["feature_specs"] and not first_looks:
            raise ConfigError(
                f"--first-look must be given again, since the ensemble in {output} has one and is to be calibrated "
                f"anew ({error})"
            ) from error
        return False
    return not first_looks or fitted["feature_specs"] == [asdict(look.spec) for look in first_looks]


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """What a member is trained on."""

    space: int
    """index of its features"""
    backbone: str
    recipe: str
    """digest of everything but its index that decides its weights"""


def plan_members(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: Sequence[TrainingData],
    imported: ReferenceEnsemble | None,
) -> list[MemberPlan]:
    """Every member's features and recipe; ConfigError where `--member-backbones` names others, or not all."""
    names = [own.spec.backbone for own in features]
    given = config.member_backbones or tuple(names[index % len(names)] for index in range(config.members))
    if set(given) != set(names):
        raise ConfigError(
            f"--member-backbones must name those of --features ({', '.join(names)}), each at least once, "
            f"got {','.join(given)}"
        )
    recipes = []
    for own, of_own in zip(features, data, strict=True):
        recipe = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
        recipe.update(classes=of_own.classes, data=data_digest([own]))
        if imported is not None:
            recipe["imported"] = imported.digest
        recipes.append(hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest())
    spaces = [names.index(name) for name in given]
    return [MemberPlan(space=space, backbone=names[space], recipe=recipes[space]) for space in spaces]


def data_digest(features: Sequence[FeatureSet]) -> str:
    """SHA-256 of what training sees: how the features were made, and each video's id, label and split."""
    first = features[0]
    rows = [*(own.spec.key for own in features), *zip(first.video_ids, first.labels, first.splits, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _refuse_foreign(output: str) -> None:
    """ConfigError where the output directory holds files and none of an ensemble's, whatever the flags."""
    names = [path.removeprefix(output).lstrip("/") for path in storage.list_files(output, recursive=True)]
    if names and not any(name.startswith(("member_", RAY_TRAIN_DIR, leakage.SPLITS_FILE)) for name in names):
        raise ConfigError(
            f"--output {output}: must be empty or an ensemble to continue or to overwrite, holds {names[0]}"
        )


def _finished_members(config: TrainConfig, members: list[MemberPlan]) -> list[int]:
    """Members that are published; ConfigError where one was trained by another recipe."""
    finished = []
    for index in range(config.members):
        if not storage.exists(marker(config.output, index)):
            continue
        if storage.read_json(marker(config.output, index))["member"]["recipe"] != members[index].recipe:
            raise ConfigError(
                f"--output {config.output}: member {index} was trained on other features or with other settings; "
                "choose another directory or --overwrite"
            )
        finished.append(index)
    return finished


def marker(output: str, index: int) -> str:
    """What says that a member is published, and its history."""
    return storage.join(output, f"member_{index}.json")


def _state_file(output: str, index: int, recipe: str) -> str:
    return storage.join(output, STATE_DIR, f"member_{index}-{recipe[:16]}.pt")


def _shown(counts: dict[str, float]) -> tuple[int, str]:
    scores = [f"{value:.2f}" for name, value in sorted(counts.items()) if name.startswith("member")]
    epochs = sum(value for name, value in counts.items() if name.startswith("epochs of"))
    return int(epochs), f"macro F1 on validation {' '.join(scores)}" if scores else ""
