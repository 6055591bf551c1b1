"""An ensemble out of a search's trials, as `jobs/train.py` publishes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from vidclf import storage
from vidclf.config import FitConfig, ModelConfig, TrainConfig
from vidclf.ensemble import files
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.training import publish
from vidclf.training.dataset import Batches, TrainingData
from vidclf.training.leakage import SplitAssignment
from vidclf.training.member_fit import predict
from vidclf.tuning import trial_files
from vidclf.tuning.greedy_selection import select


def publish_chosen(
    rows: Sequence[Mapping[str, Any]],
    output: str,
    config: TrainConfig,
    num_members: int,
    division: SplitAssignment,
    data: TrainingData,
    weights: str,
) -> None:
    """Choose among `rows` of `schema.trials` (the best first, whose settings `config` has), and publish the
    calibrated ensemble in `config.output`, in the place of what is there.

    An ensemble states the sizes of its members once, so that only trials of the best one's sizes, and on its
    features, can be chosen; where there are fewer than `num_members`, all of them are.
    """
    candidates = [
        row
        for row in rows
        if row["macro_f1"] is not None
        and row["error"] is None
        and row["features"] == rows[0]["features"]
        and has_sizes_of(trial_files.fit_config(row), config)
    ]
    cpu = torch.device("cpu")
    val = Batches(data.val, cpu)
    states = [trial_files.best_weights(output, row["trial_id"]) for row in candidates]
    probabilities = []
    for row, state in zip(candidates, states, strict=True):
        model = TemporalClassifier(data.feature_dim, len(data.classes), trial_files.fit_config(row))
        model.load_state_dict(state)
        probabilities.append(predict(model, val, config.batch_size, cpu).softmax(dim=1).numpy())
    chosen = select(np.stack(probabilities), data.val.labels, data.classes, num_members)
    if len(chosen) < num_members:
        print(f"{config.output}: {len(chosen)} members, since {len(candidates)} trials have the best one's model sizes")
    storage.delete_tree(config.output)
    storage.create_dir(config.output)
    division.publish(config.output)
    for index, place in enumerate(chosen):
        _publish_member(config.output, index, states[place], output, candidates[place], division.features.spec.backbone)
    publish.publish_ensemble(replace(config, members=len(chosen)), [division.features], data, [weights])


def has_sizes_of(one: FitConfig, other: FitConfig) -> bool:
    """Whether two trainings' models are the same but for their weights; dropout is none when they classify."""
    return all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(ModelConfig)
        if field.name != "dropout"
    )


def _publish_member(
    directory: str, index: int, state: dict[str, torch.Tensor], output: str, row: Mapping[str, Any], backbone: str
) -> None:
    progress = trial_files.progress_of(output, row["trial_id"])
    assert progress is not None, "a trial with a score has told of it"
    member = {
        "file": files.member_file(index),
        "backbone": backbone,
        "num_parameters": sum(tensor.numel() for tensor in state.values()),
        "seed": progress.settings["seed"],
        "digest": files.write_member(directory, index, state),
        "recipe": f"trial {row['trial_id']}",
        "trial": progress.settings,
        "attempts": max(epoch["attempt"] for epoch in progress.history),
        "epochs": len(progress.history),
        "duration_s": row["duration_s"],
        "best": progress.best,
    }
    storage.publish_json(publish.marker(directory, index), {"member": member, "history": progress.history})
