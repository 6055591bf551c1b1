"""Training of one trial of a hyperparameter search in a Ray Tune worker, from its last saved state on. [Ray Tune]"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune as ray_tune
from ray.tune import Checkpoint

from vidclf import torch_gpu
from vidclf.config import SearchConfig, TrainConfig
from vidclf.json_text import json_text
from vidclf.training import gpu_memory
from vidclf.training.dataset import TrainingData
from vidclf.training.gpu_memory import Placement
from vidclf.training.member_fit import MemberFit
from vidclf.training.state_writer import StateWriter
from vidclf.training.tracking import Tracker
from vidclf.tuning import trial_files
from vidclf.tuning.ray_search import METRIC, TIME
from vidclf.tuning.settings_schedule import Schedule, continued, settings_at
from vidclf.tuning.space import FEATURES
from vidclf.tuning.study import Study, train_config
from vidclf.tuning.trial_files import TrialRecord

STATE_FILE = "state.pt"

SCHEDULE_FILE = "schedule.json"
"""File in a checkpoint of Ray with the settings by the epoch from which they were in force."""

SHARE_FLAG = "--gpus-per-trial"
"""Flag that sets the share of a GPU, for messages."""


def run_trial(point: dict[str, Any], *, study: Study, data: dict[str, TrainingData]) -> None:
    """The function that Ray Tune calls for each trial: train with the settings at `point`.

    Training continues from the trial's last saved state, if there is one. An error of the training is written to the
    trial's progress and not raised, because Ray would try again.
    """
    config, trial_id = study.config, ray_tune.get_context().get_trial_id()
    settings = study.space.settings(point)
    location = study.locations[settings.pop(FEATURES, None)]
    progress = trial_files.progress_of(config.output, trial_id) or TrialRecord(
        trial_id=trial_id, features=location, settings={}, started_s=time.time()
    )
    if progress.error is None:
        try:
            trial_config = replace(train_config(study, location), **settings)
            if progress.best is None:
                progress.settings = trial_files.settings_of(trial_config)
                progress.schedule = continued([], 0, progress.settings)
            trial_files.publish_progress(config.output, progress)
            _train(trial_config, data[location], study, progress)
        except (ray.exceptions.RayError, OSError):
            raise  # errors of the cluster or the storage: Ray tries again
        except Exception as error:
            progress.error = trial_files.error_text(error)
            trial_files.publish_progress(config.output, progress)
    if progress.error is not None:
        # Report a score of 0: Ray does not retry such a trial, and TPE avoids similar points.
        ray_tune.report({METRIC: 0.0, TIME: len(progress.history)})


def _train(config: TrainConfig, data: TrainingData, study: Study, progress: TrialRecord) -> None:
    """Train a trial to its end. If the GPU runs out of memory, continue in a way that takes less of it."""
    torch.set_num_threads(max(1, int(study.config.cpus_per_trial)))
    device = torch_gpu.take_share(study.gpus)
    first = gpu_memory.placement_on(device, SHARE_FLAG, study.gpus, config, data)

    def train(placement: Placement) -> None:
        """Train with this placement (where features are, and parts per batch), from the last saved state on."""
        fit = MemberFit(data, config, config.seed, device, placement)
        _run_epochs(fit, config, data, study, progress)

    gpu_memory.within_memory(first, config.batch_size, train, lambda text: print(f"trial {progress.trial_id}: {text}"))


def _run_epochs(fit: MemberFit, config: TrainConfig, data: TrainingData, study: Study, progress: TrialRecord) -> None:
    """Run the epochs of a trial, from its last saved state on; save, log and report to Ray Tune after each."""
    search, trial_id = study.space.search, progress.trial_id
    interval = search.perturbation_epochs if search.algorithm == "pbt" else None
    checkpoint = ray_tune.get_checkpoint()  # only in population-based training: of a better trial, or its own
    state, schedule = trial_files.state_of(config.output, trial_id), progress.schedule
    if checkpoint is not None:
        state, schedule = _content_of(checkpoint)
    if state is not None:
        fit.restore(state)
    # Settings with which no epoch will run are no part of the schedule.
    settings = settings_at(schedule, len(fit.history)) if fit.is_done else trial_files.settings_of(config)
    progress.schedule = continued(schedule, len(fit.history), settings)
    # Epochs in progress.json that are newer than the state are trained again, with the same result.
    num_recorded = len(progress.history) if checkpoint is None else 0
    with (
        Tracker(config.output, trial_id, config, len(fit.history), kind="trial") as tracker,
        StateWriter(partial(trial_files.publish_state, config.output, trial_id)) as states,
    ):
        for epoch in fit.history:
            tracker.log(epoch, data.classes)
        if fit.history:
            _update(progress, fit, num_recorded)
            # The state may be one epoch newer than the progress: it is written first.
            trial_files.publish_progress(config.output, progress)
            if checkpoint is None or fit.is_done:
                # Otherwise the last epoch may be another trial's, whose score is no result of these settings.
                _report(fit, progress, interval)
        while not fit.is_done:
            epoch = fit.run_epoch()
            if study.guard is not None:
                study.guard.check()
            if fit.is_done or is_rung(search, len(fit.history)):
                # This report may be the trial's last, and the ensemble may need its best weights.
                states.write(fit.snapshot)
            else:
                states.offer(fit.snapshot)
            tracker.log(epoch, data.classes)
            _update(progress, fit, num_recorded)
            trial_files.publish_progress(config.output, progress)
            _report(fit, progress, interval)


def is_rung(search: SearchConfig, num_epochs: int) -> bool:
    """Whether asha (early stopping of weak trials) decides after `num_epochs` epochs if a trial continues."""
    if search.scheduler != "asha":
        return False
    rung = float(search.grace_epochs)
    while math.ceil(rung) < num_epochs:
        rung *= search.reduction_factor
    return math.ceil(rung) == num_epochs


def _update(progress: TrialRecord, fit: MemberFit, num_recorded: int) -> None:
    """Update a trial's `progress` after an epoch.

    The progress already has the first `num_recorded` epochs, so it does not change after a repetition of one of these.
    """
    num_epochs = len(fit.history)
    if num_epochs < num_recorded:
        return
    progress.history = [asdict(epoch) for epoch in fit.history]
    progress.ended_s = [*progress.ended_s, *[time.time()] * num_epochs][:num_epochs]
    progress.best_epoch = list(fit.history).index(fit.best) + 1
    progress.settings = settings_at(progress.schedule, progress.best_epoch)
    progress.is_done = fit.is_done


def _report(fit: MemberFit, progress: TrialRecord, interval: int | None) -> None:
    """Report the figures of a trial to Ray Tune: its best epoch so far or, with an `interval`, its last epoch.

    The `interval` belongs to population-based training, which compares settings by what they have just achieved: the
    best epoch so far may be one of another trial. Every so many epochs and after the last epoch the report includes the
    trial's state and the schedule of its settings, which Ray may pass on to another trial.
    """
    epoch = fit.best if interval is None else fit.history[-1]
    figures = {METRIC: epoch.val_macro_f1, TIME: len(fit.history), "val_loss": epoch.val_loss}
    if interval is None or (len(fit.history) % interval and not fit.is_done):
        ray_tune.report(figures)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(fit.checkpoint())
        Path(folder, SCHEDULE_FILE).write_text(json_text(progress.schedule))
        ray_tune.report(figures, checkpoint=Checkpoint.from_directory(folder))


def _content_of(checkpoint: Checkpoint) -> tuple[bytes, Schedule]:
    """The bytes of a trial's state and the schedule of its settings, read from a checkpoint of Ray."""
    with checkpoint.as_directory() as folder:
        return Path(folder, STATE_FILE).read_bytes(), json.loads(Path(folder, SCHEDULE_FILE).read_text())
