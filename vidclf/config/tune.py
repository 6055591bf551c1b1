"""Configuration of `tune`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import GpuShare, above, at_least, check_named_once, require
from vidclf.config.options import MlflowOptions, Options, OutputOptions, SplitOptions


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Options):
    """Search algorithm and scheduler: the `search` part of a search space in YAML."""

    algorithm: Literal["tpe", "random", "grid", "pbt"] = "tpe"
    """Search algorithm. tpe: Optuna's tree-structured Parzen estimator. random: random points. grid: every
    combination. pbt: population-based training, in which the worse half of the trials continues from the weights of
    the better half."""
    scheduler: Literal["asha", "none"] = "asha"
    """Early stopping of trials. asha: stop trials that are behind other trials at the same epoch. none: every trial
    runs to its end."""
    grace_epochs: Annotated[int, at_least(1)] = 10
    """Number of epochs that asha grants every trial."""
    reduction_factor: Annotated[float, above(1)] = 3.0
    """asha continues one of this many trials after grace_epochs, and again each time the number of epochs has grown by
    this factor."""
    startup_trials: Annotated[int, at_least(1)] = 10
    """Number of random trials before tpe uses the scores of earlier trials."""
    perturbation_epochs: Annotated[int, at_least(1)] = 5
    """Number of epochs between two exchanges of weights in pbt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_alone = self.algorithm != "pbt" or self.scheduler == "none"
        require(
            is_alone, "scheduler", "none with algorithm pbt, which itself stops and replaces trials", self.scheduler
        )


@dataclass(frozen=True, kw_only=True)
class TuneConfig(SplitOptions, MlflowOptions, OutputOptions):
    """Search for the model and training recipe with the best macro F1 on the validation split."""

    features: tuple[str, ...]
    """Features directory, as jobs/extract.py writes it. Give several, comma-separated, of the same videos, if the
    search space chooses between them."""
    space: str
    """YAML file that defines the search space and the search algorithm, for example tune_configs/default.yaml."""
    output: str
    """Directory for best.yaml, trials.parquet and index.html. A job that is submitted again with the same directory
    continues the search."""
    num_samples: Annotated[int, at_least(1, "trial")] = 32
    """Number of trials."""
    time_budget: Annotated[float, above(0, "seconds")] | None = None
    """Seconds after which the search stops its trials and starts no new ones. A job that is submitted again gets the
    same time once more. (default: no limit)"""
    cpus_per_trial: Annotated[float, above(0, "CPUs")] = 1.0
    """Number of CPUs, or share of one, that Ray reserves per trial."""
    gpus_per_trial: GpuShare = 0.25
    """Share of a GPU, and of its memory, that each trial uses. A cluster without GPUs uses 0."""
    seed: int = 0
    """Random seed of the search, of the split if a new one is made, and of the training of every trial. The choices of
    tpe, asha and pbt also depend on the order in which trials end."""
    ensemble_from_trials: Annotated[int, at_least(1, "member")] | None = None
    """Number of members of an ensemble that is selected from the trials and written to ensemble/ in the output: the
    best trial, and the trials that improve it most on the validation split. Candidates have the same features and the
    same model sizes as the best trial. (default: no ensemble)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("features", self.features, "directory")
