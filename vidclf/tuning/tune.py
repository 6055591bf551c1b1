"""Searching for the best model and recipe: a training a trial, on fractional resources. [Ray Tune]

What a trial has done stands in its own files (`learning/trials.py`); Ray Tune decides which point comes next and
who stops. So a search that is killed loses the epochs of each running trial since its last state.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
import pyarrow as pa
from ray import tune as ray_tune
from ray.tune import Callback, FailureConfig, RunConfig, Tuner

from vidclf import arguments, gpu_worker, ray_cluster, storage, tally
from vidclf.config import TuneConfig
from vidclf.errors import RunStopped
from vidclf.features.feature_set import FeatureSet
from vidclf.progress import ProgressLine
from vidclf.runs import lease, output_files, outputs
from vidclf.training import leakage, tracking
from vidclf.training.dataset import TrainingData, training_data
from vidclf.training.leakage import SplitAssignment
from vidclf.training.member_plan import data_digest
from vidclf.tuning import space as space_module
from vidclf.tuning import trial_files
from vidclf.tuning.ensemble_from_trials import publish_chosen
from vidclf.tuning.ray_search import METRIC, ray_domain, scheduler, searcher
from vidclf.tuning.space import POINT, read_space
from vidclf.tuning.study import (
    STUDY_FILE,
    Study,
    locations,
    method,
    refuse_incomparable,
    refuse_large_grid,
    refuse_other,
    train_config,
)
from vidclf.tuning.trial_files import BEST_FILE, TRIALS_DIR, TRIALS_FILE
from vidclf.tuning.trial_worker import run_trial

ENSEMBLE_DIR = "ensemble"

SUMMARY_FILE = "summary.json"

RAY_TUNE_DIR = "_ray_tune"

RUN_NAME = "search"

MAX_FAILURES = 2
"""Restarts of a trial whose worker or node died; one that fails of itself would fail again, and is over."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search that has ended."""

    config: TuneConfig
    space: dict[str, Any]
    searched: list[str]
    """keys of the space that trials differ in"""
    trials: pa.Table
    """`schema.trials`, the best first"""
    num_planned: int
    ensemble: str | None
    """directory of the ensemble made of trials"""


def tune(config: TuneConfig, features: Mapping[str, FeatureSet], weights: Mapping[str, str]) -> SearchResult | None:
    """Search, write trials.parquet, best.yaml and, where asked for, the ensemble; None after a dry run.

    `features` and where their backbone's weights were, `weights`, are by location. Raises ConfigError before any
    work where space and features do not fit, or the directory holds another search, RunStopped where no trial
    ends with a score.
    """
    # Workers have other working directories, so no location may be relative.
    features = {storage.canonical(location): found for location, found in features.items()}
    weights = {storage.canonical(location): found for location, found in weights.items()}
    config = replace(config, output=storage.canonical(config.output), features=tuple(features))
    arguments.check_outputs(config)
    searched = read_space(config.space)
    guard = lease.guard(config.output)
    study = Study(config=config, space=searched, locations=locations(searched, features), guard=guard)
    refuse_large_grid(study)
    divisions = {
        location: leakage.assign_splits(found, train_config(study, location)) for location, found in features.items()
    }
    refuse_incomparable({location: division.features for location, division in divisions.items()})
    data = {location: training_data(division.features) for location, division in divisions.items()}
    if config.mlflow is not None:
        tracking.check_mlflow(config.mlflow)
    identity = {
        **searched.described(),
        "num_samples": config.num_samples,
        "seed": config.seed,
        "split": config.split,
        "features": {location: data_digest([division.features]) for location, division in divisions.items()},
    }
    is_begun = refuse_other(config, identity)
    print(*sorted({division.summary for division in divisions.values()}), sep="\n")
    if config.dry_run:
        names = ", ".join(space_module.searched(searched))
        verb = "go on with" if is_begun else "search"
        print(f"would {verb} {study.num_trials} trials over {names} by {method(searched)} into {config.output}")
        print(*filter(None, [arguments.would_delete(config)]), sep="\n", end="")
        return None
    is_complete = is_begun and _is_complete(study)
    if not is_complete:
        study = replace(study, gpus=config.gpus_per_trial if ray_cluster.connect().num_gpus else 0.0)
        gpu_worker.gpu_bytes(study.gpus)  # refuses a GPU that torch cannot use
    if config.overwrite:
        outputs.clear(output_files.SEARCH, "--output", config.output)
    storage.create_dir(config.output)
    storage.publish_json(storage.join(config.output, STUDY_FILE), identity)
    if not is_complete:
        _search(study, data)
    table = storage.read_table(storage.join(config.output, TRIALS_FILE))
    return _publish(study, table, divisions, data, weights)


def _publish(
    study: Study,
    table: pa.Table,
    divisions: Mapping[str, SplitAssignment],
    data: Mapping[str, TrainingData],
    weights: Mapping[str, str],
) -> SearchResult:
    """best.yaml, the splits and the ensemble. RunStopped, naming the first error, where no trial has a score."""
    config = study.config
    rows: list[dict[str, Any]] = table.to_pylist()
    best = next((entry for entry in rows if entry["error"] is None and entry["macro_f1"] is not None), None)
    if best is None:
        errors = sorted((entry for entry in rows if entry["error"]), key=lambda entry: entry["started_s"] or 0.0)
        told = f"the first: {trial_files.first_line(errors[0]['error'])}" if errors else "none had ended an epoch"
        raise RunStopped(f"{config.output}: none of {len(rows)} trials has a score; {told}")
    note = f"best of {len(rows)} trials by {method(study.space)}, {config.space}"
    content = trial_files.best_yaml(best, config.split, note)
    storage.publish_bytes(storage.join(config.output, BEST_FILE), content)
    divisions[best["features"]].publish(config.output)
    directory = None
    if config.ensemble_from_trials is not None:
        directory = storage.join(config.output, ENSEMBLE_DIR)
        location = best["features"]
        chosen = replace(train_config(study, location), output=directory, **vars(trial_files.fit_config(best)))
        publish_chosen(
            rows,
            config.output,
            chosen,
            config.ensemble_from_trials,
            divisions[location],
            data[location],
            weights[location],
            gpus=study.gpus,
        )
    return SearchResult(
        config=config,
        space=study.space.described(),
        searched=space_module.searched(study.space),
        trials=table,
        num_planned=study.num_trials,
        ensemble=directory,
    )


def _search(study: Study, data: dict[str, TrainingData]) -> None:
    """Run the trials that are missing and write trials.parquet."""
    config, output = study.config, study.config.output
    resources = ray_cluster.connect()
    if config.mlflow is not None:
        tracking.mlflow_experiment(tracking.mlflow_client(config.mlflow), train_config(study, config.features[0]))
    cpus = min(config.cpus_per_trial, float(resources.num_cpus))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Progress and curves are ours; an interrupt ends the job as it does elsewhere, to go on when submitted again.
    for name, value in (
        ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
        ("TUNE_PRINT_ALL_TRIAL_ERRORS", "0"),
        ("TUNE_DISABLE_SIGINT_HANDLER", "1"),
        ("RAY_AIR_NEW_OUTPUT", "0"),
        # Seconds between two records of which trials there are: one that is in none is lost with a killed search.
        ("TUNE_GLOBAL_CHECKPOINT_S", "5"),
    ):
        os.environ.setdefault(name, value)
    # One copy in each node's object store, which its trials share.
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(run_trial, study=study, data=data),
        {"cpu": cpus, **({"gpu": study.gpus} if study.gpus else {})},
    )
    directory = storage.join(output, RAY_TUNE_DIR, RUN_NAME)
    is_continued = any("experiment_state" in path for path in storage.list_files(directory))
    with ProgressLine("trials", study.num_trials, "trials") as line, tally.stopped_by_sigterm():
        log = _Log.current = _Log(study, line)
        if is_continued:
            tuner = Tuner.restore(directory, trainable, resume_unfinished=True)
        else:
            storage.delete_tree(directory)
            tuner = _new_tuner(study, trainable, storage.join(output, RAY_TUNE_DIR))
        with warnings.catch_warnings():
            # A trial that goes on counts its reports from 1 again; Optuna's pruners, which nobody asks, care.
            warnings.filterwarnings("ignore", "The reported value is ignored")
            try:
                tuner.fit()
                is_complete = True
            except _TimeIsUp:
                is_complete = False
    rows = [row for row in (_row(study, trial) for trial in log.trials) if row is not None]
    kept = {row["trial_id"] for row in rows}
    # Begun after the last thing that Ray wrote down of a search that was then killed.
    for parent, prefix in ((TRIALS_DIR, ""), (tracking.TENSORBOARD_DIR, "trial_")):
        for path in storage.list_dirs(storage.join(output, parent)):
            name = path.rstrip("/").rsplit("/", 1)[-1]
            if name.removeprefix(prefix) not in kept:
                outputs.clear_part(output_files.SEARCH, output, f"{parent}/{name}")
    table = trial_files.table(rows, space_module.searched(study.space))
    storage.publish_table(storage.join(output, TRIALS_FILE), table)
    # Last, as the marker that nothing is left to run.
    summary = {
        "is_complete": is_complete,
        "num_planned": study.num_trials,
        "num_trials": len(rows),
        "statuses": dict(Counter(row["status"] for row in rows)),
        "num_epochs": sum(row["num_epochs"] for row in rows),
    }
    storage.publish_json(storage.join(output, SUMMARY_FILE), summary)
    if is_complete:
        # In population-based training it holds every state that was to be handed on.
        storage.delete_tree(storage.join(output, RAY_TUNE_DIR))


def _new_tuner(study: Study, trainable: Any, directory: str) -> Tuner:
    is_grid = study.space.search.algorithm == "grid"
    domains = {name: ray_domain(domain) for name, domain in study.space.domains.items()}
    return Tuner(
        trainable,
        param_space={POINT: ray_tune.grid_search(study.space.grid())} if is_grid else domains,
        tune_config=ray_tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=searcher(study),
            scheduler=scheduler(study),
            num_samples=1 if is_grid else study.config.num_samples,
            # A worker takes two seconds to start.
            reuse_actors=True,
            trial_dirname_creator=_trial_id,
        ),
        run_config=RunConfig(
            name=RUN_NAME,
            storage_path=directory,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[_Log.current],
            verbose=0,
        ),
    )


class _TimeIsUp(Exception):
    """The time budget is spent. Ray's own budget ends a search for good; one that is left so goes on later."""


class _Log(Callback):
    """A line for each trial that is over, how far the search is, and whether its time is up."""

    current: _Log

    def __init__(self, study: Study, line: ProgressLine) -> None:
        self._study, self._line = study, line
        self._over: set[str] = set()
        self._best = 0.0
        budget = study.config.time_budget
        self._deadline = time.monotonic() + budget if budget is not None else None
        self.trials: list[Any] = []
        """Ray Tune's, when the search has ended"""

    def __reduce__(self) -> Any:
        """A search that is continued logs to the job that continues it, not to the one that began."""
        return _current_log, ()

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        pass

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._over |= {trial.trial_id for trial in trials if trial.is_finished()}
        running = sum(trial.status == "RUNNING" for trial in trials)
        self._line.update(len(self._over), f"{running} running, best macro F1 {self._best:.3f}")
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._line.say(f"the time budget of {self._study.config.time_budget:.0f} s is spent")
            raise _TimeIsUp

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.trials = list(trials)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._best = max(self._best, result.get(METRIC, 0.0))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._say(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._say(trial.trial_id, "its worker died")

    def _say(self, trial_id: str, error: str | None) -> None:
        names = space_module.searched(self._study.space)
        row = trial_files.row(self._study.config.output, trial_id, error, names)
        self._line.say(line_of(row, names))


def _current_log() -> _Log:
    return _Log.current


def line_of(row: Mapping[str, Any], searched: Sequence[str]) -> str:
    """A trial that is over, in one line."""
    drawn = ", ".join(f"{name} {shown(row[name])}" for name in searched)
    if row["error"] is not None:
        return f"trial {row['trial_id']}: {row['status']}: {trial_files.first_line(row['error'])} ({drawn})"
    scored = f"macro F1 {row['macro_f1']:.3f} at epoch {row['best_epoch']}" if row["best_epoch"] else "no epoch ended"
    run = f"{row['num_epochs']} run, {row['status']}, {row['duration_s']:.1f} s"
    return f"trial {row['trial_id']}: {scored}, {run} ({drawn})"


def shown(value: Any) -> str:
    """A setting as people read it."""
    if isinstance(value, (list, tuple)):
        return " ".join(shown(item) for item in value)
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(study: Study, trial: Any) -> dict[str, Any] | None:
    """The row of a trial of Ray Tune; None where the time was up before it began."""
    has_failed = trial.status == "ERROR"
    if not has_failed and trial_files.progress_of(study.config.output, trial.trial_id) is None:
        return None
    error = trial_files.error_text(trial.get_pickled_error() or trial.get_error()) if has_failed else None
    return trial_files.row(study.config.output, trial.trial_id, error, space_module.searched(study.space))


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)


def _is_complete(study: Study) -> bool:
    """Whether no trial is left, nor one that the time budget stopped."""
    path = storage.join(study.config.output, SUMMARY_FILE)
    return storage.exists(path) and bool(storage.read_json(path)["is_complete"])
