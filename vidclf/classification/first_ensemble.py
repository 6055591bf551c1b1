"""The ensemble of `--first-ensemble`: it takes the first look of a progressive job in place of the job's ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vidclf import storage
from vidclf.classification.compatibility import fitted_embeddings
from vidclf.classification.head import HeadSettings
from vidclf.config import ClassifyConfig
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.checked import read_checked
from vidclf.ensemble.info import EnsembleInfo
from vidclf.ensemble.pair import Calibrated, EnsemblePair
from vidclf.errors import ConfigError
from vidclf.pipeline.job import BackboneSetup, RunSpec
from vidclf.schema import Look

FLAG = "--first-ensemble"

TargetOf = Callable[[HeadSettings, Sequence[BackboneSetup]], RunSpec]
"""Function that describes an output directory for predictions, given the ensemble's settings and its backbones."""


@dataclass(frozen=True, kw_only=True)
class FirstEnsemble:
    """The first look of a job by an ensemble of its own, with a backbone of its own."""

    config: ClassifyConfig
    """the job's configuration with this ensemble, its weights and its number format"""
    pair: EnsemblePair
    """this ensemble and the job's, as one cascade"""
    embeddings: list[BackboneSetup]
    """the backbones of this ensemble"""
    target_of: TargetOf | None = None
    """function that describes the output of the first round"""

    @classmethod
    def load(cls, config: ClassifyConfig, info: EnsembleInfo, trust: TrustData) -> FirstEnsemble | None:
        """The ensemble that `config` names for the first look of a job with the ensemble of `info` and `trust`; None
        if it names none.

        Raises ConfigError if one of its files cannot be used, if the two ensembles are no pair, or if this cluster
        makes other features than those that it was fitted on.
        """
        if config.first_ensemble is None:
            return None
        location = config.first_ensemble
        try:
            first_info, first_trust = read_checked(location)
            first = Calibrated.read(location, first_info, first_trust, FLAG)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--ensemble", FLAG, 1)) from error
        pair = EnsemblePair.of(first, Calibrated.read(config.ensemble, info, trust, "--ensemble"))
        own = first_config(config, len(info.backbones), len(first_info.backbones))
        return cls(config=own, pair=pair, embeddings=fitted_embeddings(own, first_info, FLAG))

    def second_config(self, config: ClassifyConfig) -> ClassifyConfig:
        """The configuration of the job's own ensemble: `config` without the weights of this one."""
        num_first = len(self.config.weights)
        return replace(config, weights=config.weights[:-num_first]) if num_first else config

    def target(self, settings: HeadSettings, trust_threshold: float) -> RunSpec:
        """Description of the output of the first round in a job with `settings`. This ensemble accepts a video from
        `trust_threshold` on."""
        assert self.target_of is not None  # set before a job is planned
        own = replace(settings, tta=False, column_stage=str(Look.KEYFRAMES), trust_threshold=trust_threshold)
        return self.target_of(own, self.embeddings)

    @property
    def stated_settings(self) -> dict[str, Any]:
        """Entries for the settings of the job's output: another first ensemble would decide other videos."""
        return {"first_ensemble_id": self.pair.first.ensemble_id}


def first_config(config: ClassifyConfig, num_backbones: int, num_first: int) -> ClassifyConfig:
    """The configuration of the first look. The job's ensemble has `num_backbones` backbones, the first one `num_first`.

    Locations in --weights behind those of the job's ensemble are for the first one. int8 is asked of the job's ensemble
    only: the first one runs in int8 if its weights are quantized.
    """
    assert config.first_ensemble is not None
    has_both = len(config.weights) == num_backbones + num_first
    return replace(
        config,
        ensemble=storage.canonical(config.first_ensemble),
        backbone=(),
        weights=config.weights[num_backbones:] if has_both else (),
        precision="auto" if config.precision == "int8" else config.precision,
    )
