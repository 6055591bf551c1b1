"""One trial of a search, as a function of Ray Tune. [Ray Tune]"""

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


def run_trial(point: dict[str, Any], *, study: Study, data: dict[str, TrainingData]) -> None:
    """Ray Tune's function: one training, from wherever it was left."""
    config, trial_id = study.config, ray_tune.get_context().get_trial_id()
    settings = study.space.settings(point)
    location = study.locations[settings.pop(FEATURES, None)]
    progress = trial_files.progress_of(config.output, trial_id) or TrialRecord(
        trial_id=trial_id, features=location, settings={}, started_s=time.time()
    )
    if progress.error is None:
        try:
            chosen = replace(train_config(study, location), **settings)
            progress.settings = trial_files.settings_of(chosen)
            trial_files.publish_progress(config.output, progress)
            _train(chosen, data[location], study, progress)
        except (ray.exceptions.RayError, OSError):
            raise  # the cluster's or the storage's: Ray tries again
        except Exception as error:
            progress.error = trial_files.error_text(error)
            trial_files.publish_progress(config.output, progress)
    if progress.error is not None:
        # To Ray it is a trial that scored nothing, which it does not try again, and whose kind tpe avoids.
        ray_tune.report({METRIC: 0.0, TIME: len(progress.history)})


def _train(config: TrainConfig, data: TrainingData, study: Study, progress: TrialRecord) -> None:
    torch.set_num_threads(max(1, int(study.config.cpus_per_trial)))
    where = torch_gpu.take_share(study.gpus)
    first = gpu_memory.placement_on(where, SHARE_FLAG, study.gpus, config, data)

    def train(placement: Placement) -> None:
        fit = MemberFit(data, config, config.seed, where, placement)
        _run_epochs(fit, config, data, study, progress)

    gpu_memory.within_memory(first, config.batch_size, train, lambda text: print(f"trial {progress.trial_id}: {text}"))


def _run_epochs(fit: MemberFit, config: TrainConfig, data: TrainingData, study: Study, progress: TrialRecord) -> None:
    """All epochs of a trial, from its last state on."""
    search, trial_id = study.space.search, progress.trial_id
    interval = search.perturbation_epochs if search.algorithm == "pbt" else None
    handed_on = ray_tune.get_checkpoint()  # in population-based training: a better trial's, or its own
    state = _state_in(handed_on) if handed_on is not None else trial_files.state_of(config.output, trial_id)
    if state is not None:
        fit.restore(state)
    # Epochs that progress.json has and the state has not are trained again, and come out the same.
    num_told = len(progress.history) if handed_on is None else 0
    with (
        Tracker(config.output, trial_id, config, len(fit.history), kind="trial") as tracker,
        StateWriter(partial(trial_files.publish_state, config.output, trial_id)) as states,
    ):
        for epoch in fit.history:
            tracker.log(epoch, data.classes)
        if fit.history:
            _tell(fit, progress, num_told)
            _report(fit, interval)
        while not fit.is_done:
            epoch = fit.run_epoch()
            if study.guard is not None:
                study.guard.check()
            if fit.is_done or is_rung(search, len(fit.history)):
                # The trial may not go on after this report, and its best weights may be wanted.
                states.write(fit.snapshot)
            else:
                states.offer(fit.snapshot)
            tracker.log(epoch, data.classes)
            _tell(fit, progress, num_told)
            trial_files.publish_progress(config.output, progress)
            _report(fit, interval)


def is_rung(search: SearchConfig, num_epochs: int) -> bool:
    """Whether asha decides after so many epochs if a trial goes on."""
    if search.scheduler != "asha":
        return False
    rung = float(search.grace_epochs)
    while math.ceil(rung) < num_epochs:
        rung *= search.reduction_factor
    return math.ceil(rung) == num_epochs


def _tell(fit: MemberFit, progress: TrialRecord, num_told: int) -> None:
    """Bring `progress` up to date, but for epochs among the first `num_told`, which it has already."""
    num_epochs = len(fit.history)
    if num_epochs < num_told:
        return
    progress.history = [asdict(epoch) for epoch in fit.history]
    progress.ended_s = [*progress.ended_s, *[time.time()] * num_epochs][:num_epochs]
    progress.best_epoch = list(fit.history).index(fit.best) + 1
    progress.is_done = fit.is_done


def _report(fit: MemberFit, interval: int | None) -> None:
    """Tell Ray Tune of the last epoch; with the state at each `interval`, when it may be handed on."""
    figures = {METRIC: fit.best.val_macro_f1, TIME: len(fit.history), "val_loss": fit.best.val_loss}
    if interval is None or (len(fit.history) % interval and not fit.is_done):
        ray_tune.report(figures)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(fit.checkpoint())
        ray_tune.report(figures, checkpoint=Checkpoint.from_directory(folder))


def _state_in(checkpoint: Checkpoint) -> bytes:
    with checkpoint.as_directory() as folder:
        return Path(folder, STATE_FILE).read_bytes()
