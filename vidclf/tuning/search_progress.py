"""Progress of a running hyperparameter search: finished trials, a progress line, and the time budget. [Ray Tune]"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback

from vidclf.progress import ProgressLine
from vidclf.tuning import space as space_module
from vidclf.tuning import trial_files
from vidclf.tuning.ray_search import METRIC
from vidclf.tuning.study import Study


class TimeIsUp(Exception):
    """Raised when the time budget of a hyperparameter search is spent. Ray's own budget would end the search for good;
    after this error the search continues when the job is submitted again."""


class SearchLog(Callback):
    """Ray Tune callback that logs finished trials and the progress of the search, and raises TimeIsUp after the time
    budget."""

    def __init__(self, study: Study, line: ProgressLine) -> None:
        self._study, self._line = study, line
        self._finished_ids: set[str] = set()
        self._best = 0.0
        budget = study.config.time_budget
        self._deadline = time.monotonic() + budget if budget is not None else None
        self.trials: list[Any] = []
        """Ray Tune's trial objects, once the search has ended"""

    def __reduce__(self) -> Any:
        """Pickle the log as a reference to the log of the process that will unpickle it.

        Ray Tune pickles its callbacks with the search, and `Tuner.restore` takes no others. A search that is continued
        must log to the job that continues it, not to the job that began it.
        """
        return _log_of_this_process, ()

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Do nothing before the search. Called by Ray Tune."""
        pass

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Update the progress line, and raise TimeIsUp after the time budget. Called by Ray Tune."""
        self._finished_ids |= {trial.trial_id for trial in trials if trial.is_finished()}
        num_running = sum(trial.status == "RUNNING" for trial in trials)
        self._line.update(len(self._finished_ids), f"{num_running} running, best macro F1 {self._best:.3f}")
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._line.say(f"the time budget of {self._study.config.time_budget:.0f} s is spent")
            raise TimeIsUp

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Keep Ray Tune's trial objects. Called by Ray Tune when the search has ended."""
        self.trials = list(trials)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Remember the best score so far. Called by Ray Tune when a trial reports an epoch."""
        self._best = max(self._best, result.get(METRIC, 0.0))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Log the trial. Called by Ray Tune when a trial has ended."""
        self._log(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Log the trial with an error. Called by Ray Tune when a trial's worker has died."""
        self._log(trial.trial_id, "its worker died")

    def _log(self, trial_id: str, error: str | None) -> None:
        """Print the line about a finished trial, with its own error or `error`."""
        names = space_module.searched(self._study.space)
        row = trial_files.row(self._study.config.output, trial_id, error, names)
        self._line.say(line_of(row, names))


_log: SearchLog | None = None
"""The log of the hyperparameter search that this process runs; None before it begins."""


def begin_log(study: Study, line: ProgressLine) -> SearchLog:
    """A new log for the hyperparameter search that this process begins or continues. From now on, Ray Tune gets this
    log when it unpickles its callbacks."""
    global _log
    _log = SearchLog(study, line)
    return _log


def _log_of_this_process() -> SearchLog | None:
    """The log that `begin_log` made in this process; called when a pickled log is unpickled."""
    return _log


def line_of(row: Mapping[str, Any], searched: Sequence[str]) -> str:
    """A line about a finished trial: its score or its error, and the values of the searched settings."""
    settings = ", ".join(f"{name} {shown(row[name])}" for name in searched)
    if row["error"] is not None:
        return f"trial {row['trial_id']}: {row['status']}: {trial_files.first_line(row['error'])} ({settings})"
    score = f"macro F1 {row['macro_f1']:.3f} at epoch {row['best_epoch']}" if row["best_epoch"] else "no epoch ended"
    run = f"{row['num_epochs']} run, {row['status']}, {row['duration_s']:.1f} s"
    return f"trial {row['trial_id']}: {score}, {run} ({settings})"


def shown(value: Any) -> str:
    """The value of a setting as text for people, for example `0.00123`, `1 2`, or `–` for None."""
    if isinstance(value, (list, tuple)):
        return " ".join(shown(item) for item in value)
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
