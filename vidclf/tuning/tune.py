"""The `tune` job: a hyperparameter search for the best model sizes and training settings. [Ray Tune]

Each trial is one training, on fractions of CPUs and GPUs. It writes its progress to its own files
(`tuning/trial_files.py`), and Ray Tune decides which settings are tried next and which trial stops. A killed search
therefore loses, per running trial, only the epochs since the trial's last saved state.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
import pyarrow as pa
from ray import tune as ray_tune
from ray.tune import FailureConfig, RunConfig, Tuner

from vidclf import gpu_worker, preflight, ray_cluster, storage, tally
from vidclf.config import TuneConfig
from vidclf.config.fields import check_named_once
from vidclf.credentials import masked
from vidclf.errors import RunStopped
from vidclf.features.feature_set import FeatureSet
from vidclf.progress import ProgressLine
from vidclf.runs import lease, output_allowlist, outputs
from vidclf.training import class_gaps, leakage, tracking
from vidclf.training.dataset import TrainingData, training_data
from vidclf.training.leakage import SplitAssignment
from vidclf.training.member_plan import data_digest
from vidclf.tuning import space as space_module
from vidclf.tuning import trial_files
from vidclf.tuning.ensemble_from_trials import ENSEMBLE_DIR, publish_from_trials
from vidclf.tuning.ray_search import METRIC, ray_domain, scheduler, searcher
from vidclf.tuning.search_progress import SearchLog, TimeIsUp, begin_log
from vidclf.tuning.space import POINT, read_space
from vidclf.tuning.study import (
    STUDY_FILE,
    Study,
    check_comparable,
    check_grid_size,
    check_same_search,
    locations,
    method,
    train_config,
)
from vidclf.tuning.trial_files import BEST_FILE, TRIALS_DIR, TRIALS_FILE
from vidclf.tuning.trial_worker import run_trial

SUMMARY_FILE = "summary.json"

RAY_TUNE_DIR = "_ray_tune"
"""Directory of Ray Tune's own record of the search, deleted when the search is complete."""

RUN_NAME = "search"
"""Name of the search in Ray Tune's directory."""

MAX_FAILURES = 2
"""Number of times that a trial is restarted whose worker or node died. A trial that fails with an error of its own is
not restarted, because it would fail again."""

RAY_ENVIRONMENT = {
    # The search writes its own progress and curves.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # An interrupt ends this job like any other job, and the search continues when submitted again.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Seconds between two records of the existing trials. A trial that is in no record is lost if the search is killed.
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a finished hyperparameter search."""

    config: TuneConfig
    space: dict[str, Any]
    """the search space as plain values"""
    searched: list[str]
    """names of the settings whose values differ between trials"""
    trials: pa.Table
    """table with the columns `schema.trials`, the best trial first"""
    num_planned: int
    """number of trials that the search was to run"""
    ensemble: str | None
    """directory of the ensemble made from trials; None without one"""


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """A hyperparameter search whose configuration, features and output directory have been checked."""

    study: Study
    assignments: dict[str, SplitAssignment]
    """splits, by location of the features"""
    data: dict[str, TrainingData]
    """train and val splits for a training, by location of the features"""
    identity: dict[str, Any]
    """content of `study.json`: everything that must be equal for a job submitted again to continue this search"""
    is_begun: bool
    """whether the output directory already holds this search"""


def tune(config: TuneConfig, features: Mapping[str, FeatureSet], weights: Mapping[str, str]) -> SearchResult | None:
    """Run a hyperparameter search, and write `trials.parquet`, `best.yaml` and perhaps an ensemble made from trials.

    The ensemble is made with `--ensemble-from-trials`. `features` maps the location of each feature directory to its
    content. `weights` maps the same locations to the location of the weights of the backbone that extracted the
    features. Returns None after a dry run.

    Raises ConfigError before any work if the search space and the features do not fit or the output directory holds
    another search, and RunStopped if no trial ends with a score.
    """
    # Workers have other working directories, so no location may be relative.
    features = {storage.canonical(location): feature_set for location, feature_set in features.items()}
    weights = {masked(storage.canonical(location)): source for location, source in weights.items()}
    search = prepare(config, features)
    notes = {line for feature_set in features.values() if (line := class_gaps.unlabelled_line(feature_set))}
    study = search.study
    config = study.config
    notes |= {line for assignment in search.assignments.values() for line in class_gaps.gap_lines(assignment.features)}
    print(*sorted({assignment.summary for assignment in search.assignments.values()}), *sorted(notes), sep="\n")
    if config.dry_run:
        names = ", ".join(space_module.searched(study.space))
        verb = "continue with" if search.is_begun else "search"
        print(f"would {verb} {study.num_trials} trials over {names} by {method(study.space)} into {config.output}")
        print(preflight.would_delete(config), end="")
        return None
    is_complete = search.is_begun and _is_complete(study)
    if not is_complete:
        study = replace(study, gpus=config.gpus_per_trial if ray_cluster.connect().num_gpus else 0.0)
        gpu_worker.gpu_bytes(study.gpus)  # raises ConfigError if torch cannot use the GPU
    if config.overwrite:
        outputs.clear(output_allowlist.SEARCH, "--output", config.output)
    storage.create_dir(config.output)
    storage.publish_json(storage.join(config.output, STUDY_FILE), search.identity)
    if not is_complete:
        _search(study, search.data)
    table = storage.read_table(storage.join(config.output, TRIALS_FILE))
    return _publish(study, table, search, weights)


def prepare(config: TuneConfig, features: Mapping[str, FeatureSet]) -> PreparedSearch:
    """Check everything about a hyperparameter search that can be checked without Ray, and assign splits. Changes no
    file. Raises ConfigError if a check fails."""
    config = replace(config, output=storage.canonical(config.output), features=tuple(features))
    preflight.check_outputs(config)
    # The features are read by now. From here on their locations are names, which the search writes into its files: they
    # have no credentials, so that a location with a new signature continues the same search.
    features = {masked(location): class_gaps.labelled(feature_set) for location, feature_set in features.items()}
    check_named_once("features", tuple(map(masked, config.features)), "directory")
    config = replace(config, features=tuple(features))
    space = read_space(config.space)
    study = Study(config=config, space=space, locations=locations(space, features), guard=lease.guard(config.output))
    check_grid_size(study)
    assignments = {
        location: leakage.assign_splits(feature_set, train_config(study, location))
        for location, feature_set in features.items()
    }
    check_comparable({location: assignment.features for location, assignment in assignments.items()})
    data = {location: training_data(assignment.features) for location, assignment in assignments.items()}
    if config.mlflow is not None:
        tracking.check_mlflow(config.mlflow)
    identity = {
        **space.described(),
        "num_samples": config.num_samples,
        "seed": config.seed,
        "split": config.split,
        "features": {location: data_digest([assignment.features]) for location, assignment in assignments.items()},
    }
    return PreparedSearch(
        study=study,
        assignments=assignments,
        data=data,
        identity=identity,
        is_begun=check_same_search(config, identity),
    )


def _publish(study: Study, table: pa.Table, search: PreparedSearch, weights: Mapping[str, str]) -> SearchResult:
    """Write `best.yaml`, the splits and, if asked for, the ensemble; returns the result of the search. RunStopped with
    the first trial's error if no trial has a score."""
    config = study.config
    rows: list[dict[str, Any]] = table.to_pylist()
    best = next((row for row in rows if row["error"] is None and row["macro_f1"] is not None), None)
    if best is None:
        failed = sorted((row for row in rows if row["error"]), key=lambda row: row["started_s"] or 0.0)
        reason = f"the first error: {trial_files.first_line(failed[0]['error'])}" if failed else "no epoch ended"
        raise RunStopped(f"{config.output}: none of {len(rows)} trials has a score; {reason}")
    note = f"best of {len(rows)} trials by {method(study.space)}, {config.space}"
    content = trial_files.best_yaml(best, config.split, note)
    lease.guard(config.output).check()
    storage.publish_bytes(storage.join(config.output, BEST_FILE), content)
    location = best["features"]
    search.assignments[location].publish(config.output)
    directory = None
    if config.ensemble_from_trials is not None:
        directory = storage.join(config.output, ENSEMBLE_DIR)
        publish_from_trials(
            rows,
            config.output,
            replace(train_config(study, location), output=directory, **vars(trial_files.fit_config(best))),
            config.ensemble_from_trials,
            search.assignments[location],
            search.data[location],
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
    """Run the trials that have not ended yet, then write the table of trials and the summary."""
    output = study.config.output
    trials, is_complete = _run_tuner(study, data)
    rows = [row for row in (_row(study, trial) for trial in trials) if row is not None]
    _remove_unrecorded(output, {row["trial_id"] for row in rows})
    _write_tables(study, rows, is_complete)
    if is_complete:
        # In population-based training, the directory holds every state that may have been passed on.
        storage.delete_tree(storage.join(output, RAY_TUNE_DIR))


def _run_tuner(study: Study, data: dict[str, TrainingData]) -> tuple[list[Any], bool]:
    """Begin the search with Ray Tune, or continue it. Returns Ray Tune's trial objects, and whether all of them have
    ended."""
    config = study.config
    resources = ray_cluster.connect()
    if config.mlflow is not None:
        tracking.mlflow_experiment(tracking.mlflow_client(config.mlflow), train_config(study, config.features[0]))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    cpus = min(config.cpus_per_trial, float(resources.num_cpus))
    # The trials on a node share one copy of the data in its object store.
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(run_trial, study=study, data=data),
        {"cpu": cpus, **({"gpu": study.gpus} if study.gpus else {})},
    )
    directory = storage.join(config.output, RAY_TUNE_DIR, RUN_NAME)
    is_continued = any("experiment_state" in path for path in storage.list_files(directory))
    with ProgressLine("trials", study.num_trials, "trials") as line, tally.stopped_by_sigterm():
        log = begin_log(study, line)
        if is_continued:
            tuner = Tuner.restore(directory, trainable, resume_unfinished=True)
        else:
            storage.delete_tree(directory)
            tuner = _new_tuner(study, trainable, log)
        with warnings.catch_warnings():
            # A continued trial counts its reports from 1 again. That only matters to Optuna's pruners, which are not
            # used.
            warnings.filterwarnings("ignore", "The reported value is ignored")
            try:
                tuner.fit()
            except TimeIsUp:
                return log.trials, False
    return log.trials, True


def _remove_unrecorded(output: str, trial_ids: Collection[str]) -> None:
    """Delete the files of trials that are not in `trial_ids`. Such trials began after the last record that Ray wrote of
    a search that was then killed."""
    for parent, prefix in ((TRIALS_DIR, ""), (tracking.TENSORBOARD_DIR, "trial_")):
        for path in storage.list_dirs(storage.join(output, parent)):
            name = path.rstrip("/").rsplit("/", 1)[-1]
            if name.removeprefix(prefix) not in trial_ids:
                outputs.clear_part(output_allowlist.SEARCH, output, f"{parent}/{name}")


def _write_tables(study: Study, rows: Sequence[Mapping[str, Any]], is_complete: bool) -> None:
    """Write `trials.parquet`, then `summary.json`, whose entry `is_complete` says that no trial is left to run."""
    output = study.config.output
    table = trial_files.table(rows, space_module.searched(study.space))
    lease.guard(output).check()
    storage.publish_table(storage.join(output, TRIALS_FILE), table)
    summary = {
        "is_complete": is_complete,
        "num_planned": study.num_trials,
        "num_trials": len(rows),
        "statuses": dict(Counter(row["status"] for row in rows)),
        "num_epochs": sum(row["num_epochs"] for row in rows),
    }
    storage.publish_json(storage.join(output, SUMMARY_FILE), summary)


def _new_tuner(study: Study, trainable: Any, log: SearchLog) -> Tuner:
    """The Ray Tune object that runs a new search, with progress reported to `log`."""
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
            # A new worker takes two seconds to start.
            reuse_actors=True,
            trial_dirname_creator=_trial_id,
        ),
        run_config=RunConfig(
            name=RUN_NAME,
            storage_path=storage.join(study.config.output, RAY_TUNE_DIR),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[log],
            verbose=0,
        ),
    )


def _row(study: Study, trial: Any) -> dict[str, Any] | None:
    """The row of `schema.trials` for one of Ray Tune's trial objects; None if the time budget was spent before the
    trial began."""
    has_failed = trial.status == "ERROR"
    if not has_failed and trial_files.progress_of(study.config.output, trial.trial_id) is None:
        return None
    error = trial_files.error_text(trial.get_pickled_error() or trial.get_error()) if has_failed else None
    return trial_files.row(study.config.output, trial.trial_id, error, space_module.searched(study.space))


def _trial_id(trial: Any) -> str:
    """The trial's id, which Ray Tune uses as the name of its directory."""
    return str(trial.trial_id)


def _is_complete(study: Study) -> bool:
    """Whether every trial of the search in the output directory has ended; a trial that the time budget stopped has
    not."""
    path = storage.join(study.config.output, SUMMARY_FILE)
    return storage.exists(path) and bool(storage.read_json(path)["is_complete"])
