"""The study (definition of a hyperparameter search: space, features, budget), and checks of it. Works without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vidclf import storage
from vidclf.config import TrainConfig, TuneConfig
from vidclf.config.fields import differences
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.runs import output_allowlist, outputs
from vidclf.runs.lease import Guard
from vidclf.tuning.space import FEATURES, Space

STUDY_FILE = "study.json"
"""File that identifies a search: a job that is submitted again continues it only if search space, number of trials,
features, splits and seed are the same."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The definition of a hyperparameter search: configuration, search space and features. Every trial (training)
    receives it."""

    config: TuneConfig
    space: Space
    locations: dict[str | None, str]
    """feature directories by their name in the search space; the name is None if the space does not choose features"""
    gpus: float = 0.0
    """fraction of a GPU for each trial"""
    guard: Guard | None = None
    """check that no other job has taken over the output directory; made by each trial before it writes"""

    @property
    def num_trials(self) -> int:
        """Number of trials in the search: one per combination for grid search, otherwise `--num-samples`."""
        is_grid = self.space.search.algorithm == "grid"
        return len(self.space.grid()) if is_grid else self.config.num_samples


def train_config(study: Study, location: str) -> TrainConfig:
    """The training configuration that all trials of a search on the features at `location` share, without the searched
    settings."""
    config = study.config
    return TrainConfig(
        features=(location,),
        output=config.output,
        split=config.split,
        seed=config.seed,
        mlflow=config.mlflow,
        mlflow_experiment=config.mlflow_experiment,
    )


def locations(space: Space, features: Mapping[str, FeatureSet]) -> dict[str | None, str]:
    """The feature directories by their name in the search space, or by None if the space does not choose features.
    ConfigError if a name does not select exactly one directory."""
    if FEATURES in space.domains:
        names: Iterable[str] = space.domains[FEATURES].values()
    elif FEATURES in space.fixed:
        names = [space.fixed[FEATURES]]
    elif len(features) > 1:
        raise ConfigError(
            f"--features: must be one directory, or space.features a choice between them, got {len(features)}"
        )
    else:
        return {None: next(iter(features))}
    located: dict[str | None, str] = {}
    for name in names:
        matches = [
            location
            for location, feature_set in features.items()
            if name == feature_set.spec.backbone or masked(storage.canonical(name)) == location
        ]
        if len(matches) != 1:
            choices = ", ".join(
                f"{location} ({feature_set.spec.backbone})" for location, feature_set in features.items()
            )
            raise ConfigError(
                f"space.features: must name one directory of --features or its backbone, {name!r} "
                f"names {len(matches)} of {choices}"
            )
        located[name] = matches[0]
    unused = [location for location in features if location not in located.values()]
    if unused:
        raise ConfigError(f"--features {unused[0]}: must be in space.features, is not; leave it out")
    return located


def check_grid_size(study: Study) -> None:
    """Raise ConfigError if a grid search has more combinations to try than `--num-samples` allows."""
    if study.num_trials > study.config.num_samples:
        raise ConfigError(
            f"--num-samples must be at least {study.num_trials}, the points of this grid, "
            f"got {study.config.num_samples}"
        )


def check_comparable(features: Mapping[str, FeatureSet]) -> None:
    """Raise ConfigError unless all feature directories hold the same videos in the same splits, so that scores on them
    can be compared."""
    first, *others = features
    for other in others:
        videos = [
            set(zip(features[name].video_ids, features[name].labels, features[name].splits, strict=True))
            for name in (first, other)
        ]
        num_different = len({video[0] for video in videos[0] ^ videos[1]})
        if num_different:
            raise ConfigError(
                f"--features {other}: must hold the same videos in the same splits as {first}, "
                f"{num_different} differ; extract both from one manifest, and leave out --split"
            )


def check_same_search(config: TuneConfig, identity: Mapping[str, Any]) -> bool:
    """Whether the output directory already holds this hyperparameter search, unfinished or complete. ConfigError if it
    holds anything else."""
    path = storage.join(config.output, STUDY_FILE)
    outputs.check(output_allowlist.SEARCH, "--output", config.output, overwrite=config.overwrite)
    if config.overwrite:
        return False
    if not storage.exists(path):
        return False
    changed = differences(storage.read_json(path), identity)
    if changed:
        raise ConfigError(
            f"--output {config.output}: holds another search ({changed}); "
            f"{outputs.remedy(output_allowlist.SEARCH, config.output)}"
        )
    return True


def method(space: Space) -> str:
    """The search method in words, for example "tpe with asha"."""
    search = space.search
    return search.algorithm + (" with asha" if search.scheduler == "asha" else "")
