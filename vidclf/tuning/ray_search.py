"""The search methods of a space: Ray Tune's domains, searchers and schedulers. [Ray Tune]"""

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
"""Names under which trials report their best macro F1 on validation so far, and their epochs."""


def ray_domain(domain: Domain) -> Any:
    """The domain of `ray.tune` that is written in the YAML."""
    return getattr(ray_tune, domain.type)(**domain.arguments)


def searcher(study: Study) -> Searcher | BasicVariantGenerator:
    seed, search = study.config.seed, study.space.search
    if search.algorithm == "tpe":
        return OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials))
    if search.algorithm == "random":
        return OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=seed))
    return BasicVariantGenerator(random_state=seed)


def scheduler(study: Study) -> TrialScheduler:
    search = study.space.search
    if search.algorithm == "pbt":
        chosen = {name: domain for name, domain in study.space.domains.items() if name in MUTABLE}
        return PopulationBasedTraining(
            time_attr=TIME,
            perturbation_interval=search.perturbation_epochs,
            hyperparam_mutations={
                name: domain.values() if domain.type == "choice" else ray_domain(domain)
                for name, domain in chosen.items()
            },
            custom_explore_fn=functools.partial(within, chosen),
        )
    if search.scheduler == "none":
        return FIFOScheduler()
    return ContinuedASHA(
        study.config.output,
        time_attr=TIME,
        max_t=study.space.max_epochs + 1,  # whoever gets there ends by itself
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction_factor,
    )


def within(domains: Mapping[str, Domain], point: dict[str, Any]) -> dict[str, Any]:
    """The point with each number brought back into its domain, which population-based training leaves."""
    for name, domain in domains.items():
        if domain.type != "choice":
            lower, upper = domain.arguments["lower"], domain.arguments["upper"]
            last = upper - 1 if isinstance(upper, int) else upper
            point[name] = min(max(point[name], lower), last)
    return point


class ContinuedASHA(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) that knows, after a resubmission, what
    earlier trials had at each rung; Ray's own begins with empty rungs."""

    def __init__(self, output: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._output = output

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        progress = trial_files.progress_of(self._output, trial.trial_id)
        for number, best in enumerate(_best_so_far(progress), 1):
            self._trial_info[trial.trial_id].on_result(trial, number, best)


def _best_so_far(progress: TrialRecord | None) -> list[float]:
    """What a trial reported after each epoch, but for the rare trial whose weights are chosen by accuracy."""
    best: list[float] = []
    for epoch in progress.history if progress is not None else []:
        best.append(max(epoch["val_macro_f1"], best[-1] if best else 0.0))
    return best
