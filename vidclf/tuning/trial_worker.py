"""Training of one trial of a hyperparameter search in a Ray Tune worker, from its last saved state on. [Ray Tune]"""

from __future__ import annotations

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
from vidclf.training import gpu_memory
from vidclf.training.dataset import TrainingData
from vidclf.training.gpu_memory import Placement
from vidclf.training.member_fit import MemberFit
from vidclf.training.state_writer import StateWriter
from vidclf.training.tracking import Tracker
from vidclf.tuning import trial_files
from vidclf.tuning.ray_search import METRIC, TIME
from vidclf.tuning.space import FEATURES
from vidclf.tuning.study import Study, train_config
from vidclf.tuning.trial_files import TrialRecord

STATE_FILE = "state.pt"

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
            progress.settings = trial_files.settings_of(trial_config)
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
    state = _state_in(checkpoint) if checkpoint is not None else trial_files.state_of(config.output, trial_id)
    if state is not None:
        fit.restore(state)
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
            _report(fit, interval)
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
            _report(fit, interval)


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
    progress.is_done = fit.is_done


def _report(fit: MemberFit, interval: int | None) -> None:
    """Report the figures of a trial's last epoch to Ray Tune.

    With an `interval`, every so many epochs and after the last epoch the report includes the trial's state, which Ray
    may pass on to another trial.
    """
    figures = {METRIC: fit.best.val_macro_f1, TIME: len(fit.history), "val_loss": fit.best.val_loss}
    if interval is None or (len(fit.history) % interval and not fit.is_done):
        ray_tune.report(figures)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(fit.checkpoint())
        ray_tune.report(figures, checkpoint=Checkpoint.from_directory(folder))


def _state_in(checkpoint: Checkpoint) -> bytes:
    """The bytes of a trial's state, read from a checkpoint of Ray."""
    with checkpoint.as_directory() as folder:
        return Path(folder, STATE_FILE).read_bytes()
