"""A search space in terms of Ray Tune: its domains, the choice of points to try, and early stopping. [Ray Tune]"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import optuna
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.optuna import OptunaSearch

from vidclf.tuning import trial_files
from vidclf.tuning.space import MUTABLE, Domain
from vidclf.tuning.study import Study
from vidclf.tuning.trial_files import TrialRecord

METRIC, TIME = "macro_f1", "epochs"
"""Names under which trials report to Ray Tune: their best macro F1 on the validation split so far (in population-based
training that of the last epoch), and their number of epochs."""


def ray_domain(domain: Domain) -> Any:
    """The `ray.tune` object for the values of one setting, as given in the YAML search space."""
    return getattr(ray_tune, domain.type)(**domain.arguments)


def searcher(study: Study) -> Searcher | BasicVariantGenerator:
    """The Ray Tune object that chooses the points (setting values) to try, for `search.algorithm`: TPE, random search,
    or a list of variants for grid search and population-based training."""
    seed, search = study.config.seed, study.space.search
    if search.algorithm == "tpe":
        return OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials))
    if search.algorithm == "random":
        return OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=seed))
    return BasicVariantGenerator(random_state=seed)


def scheduler(study: Study) -> TrialScheduler:
    """The Ray Tune object that stops trials early or, in population-based training, lets them continue from better
    trials' weights."""
    search = study.space.search
    if search.algorithm == "pbt":
        mutable = {name: domain for name, domain in study.space.domains.items() if name in MUTABLE}
        return PopulationBasedTraining(
            time_attr=TIME,
            perturbation_interval=search.perturbation_epochs,
            hyperparam_mutations={
                name: domain.values() if domain.type == "choice" else ray_domain(domain)
                for name, domain in mutable.items()
            },
            custom_explore_fn=functools.partial(within, mutable),
        )
    if search.scheduler == "none":
        return FIFOScheduler()
    return ContinuedASHA(
        study.config.output,
        time_attr=TIME,
        max_t=study.space.max_epochs + 1,  # never reached: a trial ends by itself before
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction_factor,
    )


def within(domains: Mapping[str, Domain], point: dict[str, Any]) -> dict[str, Any]:
    """The point (values of the settings by name) with each number clipped to the limits in `domains`. Population-based
    training may go beyond these limits."""
    for name, domain in domains.items():
        if domain.type != "choice":
            lower, upper = domain.arguments["lower"], domain.arguments["upper"]
            last = upper - 1 if isinstance(upper, int) else upper
            point[name] = min(max(point[name], lower), last)
    return point


class ContinuedASHA(ASHAScheduler):
    """Early stopping by asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), also after a resubmission.

    A rung is a number of epochs after which weaker trials are stopped. When the job is submitted again, the scores of
    earlier trials at each rung are restored from their files; Ray's scheduler would begin with empty rungs.
    """

    def __init__(self, output: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._output = output

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Restore the scores that an earlier job has recorded for this trial. Called by Ray Tune."""
        super().on_trial_add(tune_controller, trial)
        progress = trial_files.progress_of(self._output, trial.trial_id)
        for number, best in enumerate(_best_so_far(progress), 1):
            self._trial_info[trial.trial_id].on_result(trial, number, best)


def _best_so_far(progress: TrialRecord | None) -> list[float]:
    """The best macro F1 until each epoch of a trial, as the trial reported it to Ray Tune. What was reported differs
    from these numbers only if weights are selected by accuracy."""
    best: list[float] = []
    for epoch in progress.history if progress is not None else []:
        best.append(max(epoch["val_macro_f1"], best[-1] if best else 0.0))
    return best
