"""What a search is of: space, features, budget; and what is refused before it begins. No Ray in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vidclf import storage
from vidclf.config import TrainConfig, TuneConfig
from vidclf.config.fields import differences
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.runs import output_files, outputs
from vidclf.runs.lease import Guard
from vidclf.tuning.space import FEATURES, Space

STUDY_FILE = "study.json"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What every trial knows."""

    config: TuneConfig
    space: Space
    locations: dict[str | None, str]
    """features directories by what the space calls them; None where it does not choose"""
    gpus: float = 0.0
    guard: Guard | None = None
    """of the output's lease; each trial looks at it before it writes"""

    @property
    def num_trials(self) -> int:
        is_grid = self.space.search.algorithm == "grid"
        return len(self.space.grid()) if is_grid else self.config.num_samples


def train_config(study: Study, location: str) -> TrainConfig:
    """What a trial on these features trains with, but for its point."""
    config = study.config
    return TrainConfig(
        features=(location,),
        output=config.output,
        split=config.split,
        seed=config.seed,
        mlflow=config.mlflow,
        mlflow_experiment=config.mlflow_experiment,
    )


def locations(searched: Space, features: Mapping[str, FeatureSet]) -> dict[str | None, str]:
    """The directories by what the space calls them; ConfigError where one is not to be told."""
    if FEATURES in searched.domains:
        names: Iterable[str] = searched.domains[FEATURES].values()
    elif FEATURES in searched.fixed:
        names = [searched.fixed[FEATURES]]
    elif len(features) > 1:
        raise ConfigError(
            f"--features: must be one directory, or space.features a choice between them, got {len(features)}"
        )
    else:
        return {None: next(iter(features))}
    located: dict[str | None, str] = {}
    for name in names:
        found = [at for at, of in features.items() if name == of.spec.backbone or storage.canonical(name) == at]
        if len(found) != 1:
            held = ", ".join(f"{at} ({of.spec.backbone})" for at, of in features.items())
            raise ConfigError(
                f"space.features: must name one directory of --features or its backbone, {name!r} "
                f"names {len(found)} of {held}"
            )
        located[name] = found[0]
    unused = [at for at in features if at not in located.values()]
    if unused:
        raise ConfigError(f"--features {unused[0]}: must be in space.features, is not; leave it out")
    return located


def refuse_large_grid(study: Study) -> None:
    """ConfigError where a grid has more points than trials are asked for."""
    if study.num_trials > study.config.num_samples:
        raise ConfigError(
            f"--num-samples must be at least {study.num_trials}, the points of this grid, "
            f"got {study.config.num_samples}"
        )


def refuse_incomparable(features: Mapping[str, FeatureSet]) -> None:
    """ConfigError where directories do not hold the same videos in the same splits: scores would not compare."""
    first, *others = features
    for other in others:
        videos = [
            set(zip(features[at].video_ids, features[at].labels, features[at].splits, strict=True))
            for at in (first, other)
        ]
        num_different = len({video[0] for video in videos[0] ^ videos[1]})
        if num_different:
            raise ConfigError(
                f"--features {other}: must hold the same videos in the same splits as {first}, "
                f"{num_different} differ; extract both from one manifest, and leave out --split"
            )


def refuse_other(config: TuneConfig, identity: Mapping[str, Any]) -> bool:
    """Whether the output directory holds this very search; ConfigError where it holds anything else."""
    path = storage.join(config.output, STUDY_FILE)
    outputs.check(output_files.SEARCH, "--output", config.output, overwrite=config.overwrite)
    if config.overwrite:
        return False
    if not storage.exists(path):
        return False
    changed = differences(storage.read_json(path), identity)
    if changed:
        raise ConfigError(
            f"--output {config.output}: holds another search ({changed}); "
            f"{outputs.remedy(output_files.SEARCH, config.output)}"
        )
    return True


def method(searched: Space) -> str:
    """How a space is searched, in words."""
    search = searched.search
    return search.algorithm + (" with asha" if search.scheduler == "asha" else "")
