"""Training the ensemble's members in parallel, each in its own Ray Train run. [Ray Train]

One run a member, not one run with a rank a member: a member that fails restarts alone, and a small
cluster trains them in turns instead of waiting for room for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vidclf import arguments, gpu_worker, ray_cluster, storage
from vidclf.config import TrainConfig
from vidclf.ensemble import calibration_file, files, reference_checkpoints
from vidclf.ensemble.info import ENSEMBLE_FILE, read_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.reference_checkpoints import ReferenceEnsemble
from vidclf.ensemble.temporal_model import TemporalClassifier, num_parameters
from vidclf.errors import ConfigError
from vidclf.features import matching
from vidclf.features.feature_set import FeatureSet
from vidclf.metrics.scores import evaluate
from vidclf.runs import output_files, outputs
from vidclf.schema import Look
from vidclf.training import gpu_memory, leakage, tracking
from vidclf.training.dataset import Batches, TrainingData, training_data
from vidclf.training.gpu_memory import WHOLE
from vidclf.training.member_fit import predict
from vidclf.training.member_plan import MemberPlan, plan_members
from vidclf.training.member_worker import SHARE_FLAG, marker, publish_record, read_record
from vidclf.training.publish import publish_ensemble
from vidclf.training.ray_members import train_members


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
    arguments.check_outputs(config)
    matching.check_sets(config.features, features)
    division = leakage.assign_splits(features[0], config)
    divided = division.features
    features = [replace(own, groups=divided.groups, splits=divided.splits) for own in features]
    looks = [
        matching.first_look(location, look, own)
        for location, look, own in zip(config.first_look, first_looks, features[: len(first_looks)], strict=True)
    ]
    imported: ReferenceEnsemble | None = None
    classes: list[str] | None = None
    if config.import_reference is not None:
        imported = reference_checkpoints.read(config.import_reference)
        classes = _reference_classes(config, imported, divided)
        config = replace(config, members=len(imported.checkpoints), **vars(imported.model))
    data = [training_data(own, classes) for own in features]
    members = plan_members(config, features, data, imported)
    if config.mlflow is not None:
        tracking.check_mlflow(config.mlflow)
    finished = [] if config.overwrite else _finished_members(config, members)
    missing = [index for index in range(config.members) if index not in finished]
    print(division.summary)
    if config.dry_run:
        verb = "train" if imported is None else "import"
        print(f"would {verb} members {missing} of {config.members} into {config.output}")
        print(*filter(None, [arguments.would_delete(config)]), sep="\n", end="")
        return None
    gpus = _share(config, data) if missing and imported is None else 0.0
    if config.overwrite:
        outputs.clear(output_files.ENSEMBLE, "--output", config.output)
    ensemble_file = storage.join(config.output, ENSEMBLE_FILE)
    calibrates = bool(missing) or not storage.exists(ensemble_file) or not _is_calibrated(config.output, looks)
    if calibrates:
        if storage.exists(ensemble_file):
            storage.delete_file(ensemble_file)
        storage.create_dir(config.output)
        division.publish(config.output)
        if missing and imported is not None:
            _import_members(config, data[0], imported, members, missing)
        elif missing:
            train_members(config, data, members, missing, gpus)
        publish_ensemble(config, features, data[0], weights, looks, gpus=gpus)
    info = read_info(config.output)
    return {
        "num_trained": len(missing),
        "was_calibrated": calibrates,
        **info.training,
        "members": [member.as_json() for member in info.members],
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
    return reference_checkpoints.class_names(config.reference_classes, imported.num_classes, labels)


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
        measured = evaluate(data.val.labels, predicted_B.tolist(), data.classes)
        member = MemberRecord(
            file=files.member_file(index),
            backbone=members[index].backbone,
            num_parameters=num_parameters(model),
            digest=files.write_member(config.output, index, checkpoint.state),
            recipe=members[index].recipe,
            imported_from=checkpoint.file,
            best={
                "val_accuracy": measured.accuracy,
                "val_macro_f1": measured.macro_f1,
                "val_weighted_f1": measured.weighted_f1,
                "val_f1": [measured.per_class[name].f1 for name in data.classes],
            },
        )
        publish_record(config.output, index, member, [])


def _share(config: TrainConfig, data: Sequence[TrainingData]) -> float:
    """Each member's share of a GPU, 0 on a cluster without one, after saying what a member takes of it. ConfigError
    where a member does not fit, or torch cannot use the GPU."""
    gpus = config.gpus_per_member if ray_cluster.connect().num_gpus else 0.0
    gpu_bytes = gpu_worker.gpu_bytes(gpus)
    if gpu_bytes is not None:
        sizes = [gpu_memory.member_memory(config, own) for own in data]
        largest = max(sizes, key=lambda size: size.needed_bytes(WHOLE))
        placement = gpu_memory.place(SHARE_FLAG, gpus, gpu_bytes, largest, config.batch_size)
        print(gpu_memory.described(SHARE_FLAG, gpus, gpu_bytes, largest, placement))
    return gpus


def _is_calibrated(output: str, first_looks: Sequence[FeatureSet]) -> bool:
    """Whether a published ensemble is whole, as this version calibrates it and with the first look that is asked for;
    any or none will do where none is. ConfigError where a look that it has would be lost with the calibration."""
    info = read_info(output)
    keyframes = info.stages.get(Look.KEYFRAMES)
    fitted_specs = keyframes.feature_specs if keyframes is not None else []
    try:
        calibration_file.read_trust(output, info)
    except ConfigError as error:
        if fitted_specs and not first_looks:
            raise ConfigError(
                f"--first-look must be given again, since the ensemble in {output} has one and is to be calibrated "
                f"anew ({error})"
            ) from error
        return False
    return not first_looks or fitted_specs == [look.spec for look in first_looks]


def _finished_members(config: TrainConfig, members: list[MemberPlan]) -> list[int]:
    """Members that are published; ConfigError where one was trained by another recipe."""
    finished = []
    for index in range(config.members):
        if not storage.exists(marker(config.output, index)):
            continue
        if read_record(config.output, index).recipe != members[index].recipe:
            raise ConfigError(
                f"--output {config.output}: member {index} was trained on other features or with other settings; "
                f"{outputs.remedy(output_files.ENSEMBLE, config.output)}"
            )
        finished.append(index)
    return finished
