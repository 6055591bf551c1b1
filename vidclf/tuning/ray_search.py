"""Domains, searchers and schedulers of Ray Tune for a search space. [Ray Tune]"""

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
"""Names under which trials report their best macro F1 on the validation split so far, and their number of epochs."""


def ray_domain(domain: Domain) -> Any:
    """The `ray.tune` domain of a domain in the YAML."""
    return getattr(ray_tune, domain.type)(**domain.arguments)


def searcher(study: Study) -> Searcher | BasicVariantGenerator:
    """The source of points for `search.algorithm`: TPE, random search, or variants for grid and population-based
    training."""
    seed, search = study.config.seed, study.space.search
    if search.algorithm == "tpe":
        return OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials))
    if search.algorithm == "random":
        return OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=seed))
    return BasicVariantGenerator(random_state=seed)


def scheduler(study: Study) -> TrialScheduler:
    """The rule that stops trials early or, in population-based training, exchanges their weights."""
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
    """The point with each number clipped to its domain, because population-based training may leave the domain."""
    for name, domain in domains.items():
        if domain.type != "choice":
            lower, upper = domain.arguments["lower"], domain.arguments["upper"]
            last = upper - 1 if isinstance(upper, int) else upper
            point[name] = min(max(point[name], lower), last)
    return point


class ContinuedASHA(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) that survives a resubmission.

    It restores the scores of earlier trials at each rung from their files. Ray's scheduler would begin with empty
    rungs.
    """

    def __init__(self, output: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._output = output

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        progress = trial_files.progress_of(self._output, trial.trial_id)
        for number, best in enumerate(_best_so_far(progress), 1):
            self._trial_info[trial.trial_id].on_result(trial, number, best)


def _best_so_far(progress: TrialRecord | None) -> list[float]:
    """The scores that a trial reported after its epochs. They differ only if its weights are selected by accuracy."""
    best: list[float] = []
    for epoch in progress.history if progress is not None else []:
        best.append(max(epoch["val_macro_f1"], best[-1] if best else 0.0))
    return best
