"""The `train` job: an ensemble's members (models) trained in parallel, each in its own Ray Train run. [Ray Train]

There is one Ray Train run per member, not one run with one rank per member. A failed member then restarts alone, and a
small cluster trains the members in turns instead of waiting for room for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vidclf import gpu_worker, preflight, ray_cluster, storage
from vidclf.config import TrainConfig
from vidclf.ensemble import calibration_file, files, reference_checkpoints, split_record
from vidclf.ensemble.info import ENSEMBLE_FILE, read_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.reference_checkpoints import ReferenceEnsemble
from vidclf.ensemble.temporal_model import num_parameters
from vidclf.errors import ConfigError
from vidclf.features import matching
from vidclf.features.feature_set import FeatureSet
from vidclf.metrics.scores import evaluate
from vidclf.number_words import counted
from vidclf.runs import output_allowlist, outputs
from vidclf.schema import Look
from vidclf.training import class_gaps, fold_training, gpu_memory, tracking
from vidclf.training.calibration_choice import choose_calibration
from vidclf.training.changed_sides import changed_sides
from vidclf.training.dataset import Batches, TrainingData, training_data
from vidclf.training.feature_sources import found_sources
from vidclf.training.fold_training import Folds
from vidclf.training.gpu_memory import WHOLE
from vidclf.training.leakage import SplitAssignment
from vidclf.training.member_fit import predict
from vidclf.training.member_folds import MemberFolds, plan_member_folds
from vidclf.training.member_folds import recipe as fold_recipe
from vidclf.training.member_plan import MemberPlan, plan_members
from vidclf.training.member_worker import SHARE_FLAG, marker, publish_record, read_record
from vidclf.training.pooled_splits import pooled_splits
from vidclf.training.publish import known_sources, publish_ensemble, votes_on
from vidclf.training.ray_members import train_members
from vidclf.training.sublabels import taxonomy_line, taxonomy_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training job whose configuration, features and output directory have been checked, ready for `execute`."""

    config: TrainConfig
    """with the output's absolute location; for an import, with the number and sizes of the imported members"""
    assignment: SplitAssignment
    features: list[FeatureSet]
    """one per backbone, all with the splits and groups of `assignment`"""
    weights: Sequence[str]
    """where each backbone's weights were when the features were extracted"""
    first_looks: list[FeatureSet]
    """features of a few keyframes per video, one set per backbone; empty without such features"""
    data: list[TrainingData]
    """train and val splits, one entry per backbone, or with `member_folds` one per backbone and fold"""
    member_folds: MemberFolds | None
    """folds that members leave out, for `--calibration cross`; None if they are calibrated on the validation split"""
    members: list[MemberPlan]
    imported: ReferenceEnsemble | None
    """checkpoints of the older system that become members; None if members are trained"""
    missing: list[int]
    """indices of the members that are not finished yet"""
    needs_calibration: bool
    """whether members are missing, or the output has no complete ensemble that was calibrated with these first looks"""
    folds: Folds | None
    """folds of the cross-validation; None if none is wanted"""
    notes: list[str]
    """lines for the log about the chosen calibration, sizes that the model does not have, videos without a label,
    classes that a split lacks, and videos of unknown sources"""


def train(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    weights: Sequence[str],
    first_looks: Sequence[FeatureSet] = (),
) -> dict[str, Any] | None:
    """Train or import the missing members (models of the ensemble), calibrate the ensemble and publish it.

    Members that `config.output` already holds are kept. `features` are the feature sets in `config.features`, and
    `weights` says where each backbone's weights were at extraction. `first_looks` are the feature sets in
    `config.first_look`, of a few keyframes per video. Near duplicates are searched in the first feature set only.

    Returns a summary, or None after a dry run. Raises ConfigError before any work starts if the features cannot be
    trained on or the directory holds members of another ensemble.
    """
    plan = prepare(config, features, weights, first_looks)
    print(plan.assignment.summary, *plan.notes, sep="\n")
    changed = changed_sides(plan.assignment.features, plan.config.output) if config.overwrite else None
    print(*filter(None, [changed]), sep="\n", end="\n" if changed else "")
    if config.dry_run:
        verb = "train" if plan.imported is None else "import"
        print(f"would {verb} members {plan.missing} of {plan.config.members} into {plan.config.output}")
        if plan.folds is not None:
            print(f"would cross-validate with {plan.folds.num_folds} folds of {counted(plan.config.members, 'member')}")
        print(preflight.would_delete(plan.config), end="")
        return None
    execute(plan)
    return summary(plan)


def prepare(
    config: TrainConfig, features: Sequence[FeatureSet], weights: Sequence[str], first_looks: Sequence[FeatureSet]
) -> Plan:
    """Check all that can be checked without Ray, assign splits, and find out which members (models) are not finished.

    Changes no file. Raises ConfigError if a check fails.
    """
    # Workers have other working directories, so the output's location must not be relative.
    config = replace(config, output=storage.canonical(config.output))
    preflight.check_outputs(config)
    matching.check_sets(config.features, features)
    unlabelled = class_gaps.unlabelled_line(features[0])
    features = [class_gaps.labelled(feature_set) for feature_set in features]
    choice = choose_calibration(config, features[0])
    config, assignment = choice.config, choice.assignment
    groups, splits = assignment.features.groups, assignment.features.splits
    split_features = [replace(feature_set, groups=groups, splits=splits) for feature_set in features]
    matched_looks = [
        matching.first_look(location, look, full_look)
        for location, look, full_look in zip(
            config.first_look, first_looks, split_features[: len(first_looks)], strict=True
        )
    ]
    imported: ReferenceEnsemble | None = None
    classes: list[str] | None = None
    if config.import_reference is not None:
        imported = reference_checkpoints.read(config.import_reference)
        classes = _reference_classes(config, imported, assignment.features)
        config = replace(config, members=len(imported.checkpoints), **vars(imported.model))
    pool = assignment.features
    if config.calibration == "cross":
        pool = replace(pool, splits=pooled_splits(pool.splits))
    taxonomy = taxonomy_of(pool, classes) if config.fits_sublabels else {}
    member_folds: MemberFolds | None = None
    if config.calibration == "cross":
        config = fold_recipe(config)
        found = found_sources(assignment.features).clusters
        member_folds = plan_member_folds(assignment.features, config.members, [assignment.clusters, found])
        folds = range(member_folds.num_folds)
        data = [
            member_folds.data(feature_set, fold, taxonomy=taxonomy) for feature_set in split_features for fold in folds
        ]
    else:
        data = [training_data(feature_set, classes, taxonomy=taxonomy) for feature_set in split_features]
    members = plan_members(config, split_features, data, imported, member_folds)
    if config.mlflow is not None:
        tracking.check_mlflow(config.mlflow)
    finished = [] if config.overwrite else _finished_members(config, members, has_sublabels=bool(taxonomy))
    missing = [index for index in range(config.members) if index not in finished]
    return Plan(
        config=config,
        assignment=assignment,
        features=split_features,
        weights=weights,
        first_looks=matched_looks,
        data=data,
        member_folds=member_folds,
        members=members,
        imported=imported,
        missing=missing,
        needs_calibration=bool(missing) or not _is_calibrated(config, matched_looks),
        folds=fold_training.plan_folds(config, assignment, members),
        notes=[
            *([choice.line] if choice.line else []),
            *([f"--model {config.model} does not use {', '.join(config.unused)}"] if config.unused else []),
            *([unlabelled] if unlabelled else []),
            *class_gaps.gap_lines(assignment.features),
            *([line] if (line := found_sources(assignment.features).line) else []),
            *_sublabel_lines(config, pool, data[0]),
            *([f"accuracy and risk: {caveat}"] if (caveat := known_sources(assignment.features).caveat) else []),
        ],
    )


def execute(plan: Plan) -> None:
    """Train or import the missing members (models of the ensemble), then calibrate and publish the ensemble.

    With `--folds`, a cross-validation follows. Nothing is done twice: complete members, ensembles and cross-validations
    are kept. Raises ConfigError before it changes any file if a member does not fit into its share of a GPU.
    """
    config, folds = plan.config, plan.folds
    trains_folds = folds is not None and (config.overwrite or fold_training.recorded(config.output, folds) is None)
    gpus = _share(config, plan.data) if (plan.missing or trains_folds) and plan.imported is None else 0.0
    if config.overwrite:
        outputs.clear(output_allowlist.ENSEMBLE, "--output", config.output)
    if plan.needs_calibration:
        _make_ensemble(plan, gpus)
    if folds is not None:
        fold_training.cross_validate(config, folds, plan.features, plan.weights, gpus, votes_on(gpus))


def _make_ensemble(plan: Plan, gpus: float) -> None:
    """Train or import the missing members (models of the ensemble), calibrate the ensemble and publish it. Each member
    has the fraction `gpus` of a GPU."""
    config = plan.config
    ensemble_file = storage.join(config.output, ENSEMBLE_FILE)
    if storage.exists(ensemble_file):
        storage.delete_file(ensemble_file)
    storage.create_dir(config.output)
    plan.assignment.publish(config.output)
    if plan.missing and plan.imported is not None:
        _import_members(config, plan.data[0], plan.imported, plan.members, plan.missing)
    elif plan.missing:
        train_members(config, plan.data, plan.members, plan.missing, gpus)
    publish_ensemble(
        config,
        plan.features,
        plan.data[0],
        plan.weights,
        plan.first_looks,
        gpus=gpus,
        member_folds=plan.member_folds,
    )


def summary(plan: Plan) -> dict[str, Any]:
    """The result that the job prints: figures of the published ensemble and its members, by name."""
    info = read_info(plan.config.output)
    measured = plan.data[: plan.member_folds.num_folds if plan.member_folds is not None else 1]
    measured_labels = {label for member_data in measured for label in member_data.val.labels}
    return {
        "num_trained": len(plan.missing),
        "was_calibrated": plan.needs_calibration,
        "classes_with_val": [name for index, name in enumerate(info.classes) if index in measured_labels],
        **info.training,
        "members": [member.as_json() for member in info.members],
        "linear_member": asdict(info.linear) if info.linear is not None else None,
        "ensemble_id": info.ensemble_id,
    }


def _reference_classes(config: TrainConfig, imported: ReferenceEnsemble, features: FeatureSet) -> list[str]:
    """Class names of models imported from the older system whose checkpoints vidclf reads. ConfigError if the features
    or the classes do not match the models."""
    if imported.feature_dim != features.spec.feature_dim:
        raise ConfigError(
            f"--import-reference {config.import_reference}: was trained on {imported.feature_dim} features per frame, "
            f"{config.features[0]} holds {features.spec.feature_dim} ({features.spec.backbone}); extract with its "
            "backbone"
        )
    labels = {label for label in features.labels if label is not None}
    return reference_checkpoints.class_names(config.reference_classes, imported.num_classes, labels)


def _sublabel_lines(config: TrainConfig, features: FeatureSet, data: TrainingData) -> list[str]:
    """A line for the log about the sublabels that the ensemble predicts; none if there are none to predict."""
    line = taxonomy_line(features, data.hierarchy) if config.fits_sublabels else None
    return [line] if line is not None else []


def _import_members(
    config: TrainConfig,
    data: TrainingData,
    imported: ReferenceEnsemble,
    members: list[MemberPlan],
    missing: list[int],
) -> None:
    """Publish checkpoints of the older system as members (models of the ensemble), with their scores on the validation
    split. Only those with the indices `missing` are imported."""
    cpu = torch.device("cpu")
    for index in missing:
        checkpoint = imported.checkpoints[index]
        model = build_model(data.feature_dim, len(data.classes), config)
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
    """Fraction of a GPU for each member (model of the ensemble); 0 on a cluster without GPUs.

    Prints how much GPU memory a member needs. Raises ConfigError if a member does not fit into its share, or torch
    cannot use the GPU.
    """
    gpus = config.gpus_per_member if ray_cluster.connect().num_gpus else 0.0
    gpu_bytes = gpu_worker.gpu_bytes(gpus)
    if gpu_bytes is not None:
        sizes = [gpu_memory.member_memory(config, backbone_data) for backbone_data in data]
        largest = max(sizes, key=lambda size: size.needed_bytes(WHOLE))
        placement = gpu_memory.place(SHARE_FLAG, gpus, gpu_bytes, largest, config.batch_size)
        print(gpu_memory.described(SHARE_FLAG, gpus, gpu_bytes, largest, placement))
    return gpus


def _is_calibrated(config: TrainConfig, first_looks: Sequence[FeatureSet]) -> bool:
    """Whether the output holds a complete ensemble in this version's format that was calibrated with these first looks,
    with the record of its splits, and that has a linear member exactly if `config` wants one.

    `first_looks` are features of a few keyframes per video. If there are none, an ensemble with or without such
    features counts as complete. Raises ConfigError if the ensemble must be calibrated again and would lose its keyframe
    features because `first_looks` is empty.
    """
    output = config.output
    if not storage.exists(storage.join(output, ENSEMBLE_FILE)):
        return False
    outdated: ConfigError | None = None
    try:
        info = read_info(output)
        if not calibration_file.read_trust(output, info).truth:
            outdated = ConfigError("it lacks what prediction sets are made from")
        split_record.check_record(output, info.splits)
        files.load_linear(output, info)
        if (info.linear is not None) != config.fits_linear_member:
            has, wants = ("a", "none") if info.linear is not None else ("no", "one")
            outdated = ConfigError(
                f"it has {has} linear member, and --linear-member {config.linear_member} wants {wants}"
            )
    except ConfigError as error:
        outdated = error
    keyframes = read_info(output, accepts_outdated=True).stages.get(Look.KEYFRAMES)
    fitted_specs = keyframes.feature_specs if keyframes is not None else []
    if outdated is not None:
        if fitted_specs and not first_looks:
            raise ConfigError(
                f"--first-look must be given again, since the ensemble in {output} has one and must be calibrated "
                f"again ({outdated})"
            ) from outdated
        return False
    return not first_looks or [spec.key for spec in fitted_specs] == [look.spec.key for look in first_looks]


def _finished_members(config: TrainConfig, members: list[MemberPlan], *, has_sublabels: bool) -> list[int]:
    """Indices of the members (models of the ensemble) that are already in the output. ConfigError if one was trained on
    other features or with other settings."""
    finished = []
    for index in range(config.members):
        if not storage.exists(marker(config.output, index)):
            continue
        if read_record(config.output, index).recipe != members[index].recipe:
            remedy = outputs.remedy(output_allowlist.ENSEMBLE, config.output)
            if has_sublabels:
                remedy += "; an earlier version trained without sublabels, whose members --sublabels none keeps"
            if config.calibration == "cross":
                remedy += "; members that were trained for the validation split --calibration validation keeps"
            raise ConfigError(
                f"--output {config.output}: member {index} was trained on other features or with other settings; "
                f"{remedy}"
            )
        finished.append(index)
    return finished
