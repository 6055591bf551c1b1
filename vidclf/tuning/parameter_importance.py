"""Importance of the settings in a hyperparameter search: the share of the scores' variance that each setting explains.

Optuna computes it by functional ANOVA over a random forest (Hutter et al. 2014, An Efficient Approach for Assessing
Hyperparameter Importance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

MIN_TRIALS = 4
"""Smallest number of trials for which importances are computed; fewer do not show the effects of several parameters."""


def importances(points: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, float]:
    """The importance of each setting by its name: the share of the scores' variance that it explains. Greatest first.

    Shares add up to 1. `points` are the setting values of each trial, `scores` the trials' scores. The result is empty
    for fewer than MIN_TRIALS trials, for equal scores, and if no setting differs between trials. Numbers are compared
    by their order; on a logarithmic scale if all are above 0 and the greatest is at least ten times the least. Other
    values are categories.
    """
    if len(points) < MIN_TRIALS or len(set(scores)) < 2:
        return {}
    distributions: dict[str, BaseDistribution] = {}
    columns: dict[str, list[Any]] = {}
    for name in points[0]:
        values = [point[name] for point in points]
        if len({repr(value) for value in values}) < 2:
            continue
        columns[name] = values
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            low, high = float(min(values)), float(max(values))
            distributions[name] = FloatDistribution(low, high, log=low > 0 and high >= 10 * low)
            columns[name] = [float(value) for value in values]
        else:
            columns[name] = [repr(value) for value in values]
            distributions[name] = CategoricalDistribution(sorted(set(columns[name])))
    if not distributions:
        return {}
    if len(distributions) == 1:
        return dict.fromkeys(distributions, 1.0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise it logs each study
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            params={name: column[index] for name, column in columns.items()},
            distributions=distributions,
            value=score,
        )
        for index, score in enumerate(scores)
    )
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in shares.items()}
