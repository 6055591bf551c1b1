"""An ensemble made from trials (trained models) of a hyperparameter search, as `jobs/train.py` would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import torch_gpu
from vidclf.config import FitConfig, TrainConfig
from vidclf.ensemble import files
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.model_kinds import build_model
from vidclf.gpu_worker import OnWorker
from vidclf.runs import lease, output_allowlist, outputs
from vidclf.training.dataset import Batches, TrainingData
from vidclf.training.leakage import SplitAssignment
from vidclf.training.member_fit import predict
from vidclf.training.member_worker import publish_record
from vidclf.training.publish import publish_ensemble
from vidclf.tuning import trial_files
from vidclf.tuning.greedy_selection import select
from vidclf.tuning.settings_schedule import settings_at
from vidclf.tuning.trial_files import Trained

ENSEMBLE_DIR = "ensemble"
"""Directory of the ensemble in the output of a search."""


def publish_from_trials(
    rows: Sequence[Mapping[str, Any]],
    output: str,
    config: TrainConfig,
    num_members: int,
    assignment: SplitAssignment,
    data: TrainingData,
    weights: str,
    *,
    gpus: float,
) -> None:
    """Select `num_members` trials (trained models) of a hyperparameter search, and publish them as a calibrated
    ensemble.

    The search is in `output`; the ensemble replaces an earlier one in `config.output`. `rows` are rows of
    `schema.trials`, the best first; `config` has the settings of the best trial. An ensemble states the model sizes
    only once for all its members, so all must have the sizes and the features of the best trial. If there are fewer
    such trials, all of them become members. Trials classify the validation split in this process, or in a worker with
    the fraction `gpus` of a GPU.
    """
    candidates = [
        row
        for row in rows
        if row["macro_f1"] is not None
        and row["error"] is None
        and row["features"] == rows[0]["features"]
        and has_sizes_of(trial_files.fit_config(row), config)
    ]
    make = partial(TrialVotes, gpus, data, config.batch_size)
    vote = OnWorker(gpus, make) if gpus else make()
    votes = vote(output, candidates)
    candidates = [row for row, vote_BC in zip(candidates, votes, strict=True) if vote_BC is not None]
    probabilities_NBC = np.stack([vote_BC for vote_BC in votes if vote_BC is not None])
    selected = select(probabilities_NBC, data.val.labels, data.classes, num_members)
    if len(selected) < num_members:
        print(
            f"{config.output}: {len(selected)} members, because only {len(candidates)} trials have the model sizes of "
            f"the best{' and some of them are the same model' if len(selected) < len(candidates) else ''}"
        )
    lease.guard(config.output).check()
    outputs.clear_part(output_allowlist.SEARCH, output, ENSEMBLE_DIR)
    outputs.begin(output_allowlist.CHOSEN, config.output)
    assignment.publish(config.output)
    for index, place in enumerate(selected):
        _publish_member(config.output, index, output, candidates[place], assignment.features.spec.backbone)
    publish_ensemble(replace(config, members=len(selected)), [assignment.features], data, [weights], gpus=gpus)


class TrialVotes:
    """Function object that computes the probabilities of trials' best models (from a hyperparameter search) for the
    validation split, on the CPU or on the fraction `gpus` of a GPU."""

    def __init__(self, gpus: float, data: TrainingData, batch_size: int) -> None:
        self._device, self._data, self._batch_size = torch_gpu.take_share(gpus), data, batch_size
        self._val = Batches(data.val, self._device, is_on_device=False)

    def __call__(self, output: str, rows: Sequence[Mapping[str, Any]]) -> list[npt.NDArray[np.float32] | None]:
        """Probabilities of the validation videos as one array [B videos, C classes] per trial in `rows`; None for a
        trial that was stopped before it saved its first state."""
        return [
            self._probabilities(trial_files.trained(output, row["trial_id"]), trial_files.fit_config(row))
            for row in rows
        ]

    def _probabilities(self, trained: Trained | None, config: FitConfig) -> npt.NDArray[np.float32] | None:
        """Probabilities [B videos, C classes] of the validation videos from one trained model; None if there is no
        model."""
        if trained is None:
            return None
        model = build_model(self._data.feature_dim, len(self._data.classes), config)
        model.load_state_dict(trained.weights)
        logits_BC = predict(model.to(self._device), self._val, self._batch_size, self._device)
        probabilities_BC: npt.NDArray[np.float32] = logits_BC.softmax(dim=1).numpy()
        return probabilities_BC


def has_sizes_of(one: FitConfig, other: FitConfig) -> bool:
    """Whether two training configurations have models of the same kind and sizes. Dropout may differ, because it is off
    when a model classifies."""
    return one.sizes == other.sizes


def _publish_member(directory: str, index: int, output: str, row: Mapping[str, Any], backbone: str) -> None:
    """Write the best weights of the trial in `row` as the member (model of the ensemble) number `index` in `directory`,
    with its marker file."""
    progress, trained = trial_files.progress_of(output, row["trial_id"]), trial_files.trained(output, row["trial_id"])
    assert progress is not None, "a trial with a score has written its progress"
    assert trained is not None, "it was selected by the weights in its state"
    settings = settings_at(progress.schedule, trained.history.index(trained.best) + 1)
    member = MemberRecord(
        file=files.member_file(index),
        backbone=backbone,
        num_parameters=sum(tensor.numel() for tensor in trained.weights.values()),
        seed=settings["seed"],
        digest=files.write_member(directory, index, trained.weights),
        recipe=f"trial {row['trial_id']}",
        trial=settings,
        attempts=max(epoch["attempt"] for epoch in trained.history),
        epochs=len(trained.history),
        duration_s=float(sum(epoch["duration_s"] for epoch in trained.history)),
        best=trained.best,
    )
    publish_record(directory, index, member, trained.history)
