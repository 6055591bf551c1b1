"""Configuration of the job `tune`, a hyperparameter search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import GpuShare, above, at_least, check_named_once, require
from vidclf.config.options import MlflowOptions, Options, OutputOptions, SplitOptions


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Options):
    """Search algorithm and scheduler (early stopping) of a hyperparameter search: the keys below `search` in its YAML
    file."""

    algorithm: Literal["tpe", "random", "grid", "pbt"] = "tpe"
    """How the settings of the next trial (one training) are chosen. tpe: Optuna's tree-structured Parzen estimator,
    which learns from earlier trials. random: at random. grid: every combination. pbt: population-based training, in
    which the worst quarter of the trials continues from the weights of the best quarter, with changed settings."""
    scheduler: Literal["asha", "none"] = "asha"
    """Early stopping of trials (single trainings). asha: stop a trial whose score is behind that of other trials at the
    same epoch. none: every trial runs to its end."""
    grace_epochs: Annotated[int, at_least(1)] = 10
    """Number of epochs that every trial may run before asha compares it with others for the first time."""
    reduction_factor: Annotated[float, above(1)] = 3.0
    """Strictness of asha: with 3, one in three trials continues after grace_epochs, one in three of these after 3 times
    as many epochs, and so on."""
    startup_trials: Annotated[int, at_least(1)] = 10
    """Number of trials with random settings before tpe chooses settings from the scores of earlier trials."""
    perturbation_epochs: Annotated[int, at_least(1)] = 5
    """Number of epochs after which pbt, again and again, lets the worst quarter of the trials continue from the weights
    of the best quarter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_alone = self.algorithm != "pbt" or self.scheduler == "none"
        require(
            is_alone, "scheduler", "none with algorithm pbt, which itself stops and replaces trials", self.scheduler
        )


@dataclass(frozen=True, kw_only=True)
class TuneConfig(SplitOptions, MlflowOptions, OutputOptions):
    """Search for the model sizes and training settings with the best macro F1 on the validation split.

    Macro F1 is the F1 score averaged over the classes.
    """

    features: tuple[str, ...]
    """Directory of features, as jobs/extract.py writes it. Give several directories with features of the same videos,
    comma-separated, if the search is to choose between them."""
    space: str
    """YAML file with the settings to vary, their ranges and the search algorithm, for example
    tune_configs/default.yaml. The name alone, 'default', means the file in tune_configs/ that comes with vidclf."""
    output: str
    """Directory for the results: best.yaml, trials.parquet and index.html. A job that is submitted again with the same
    directory continues the search."""
    num_samples: Annotated[int, at_least(1, "trial")] = 32
    """Number of trials: trainings with different settings."""
    time_budget: Annotated[float, above(0, "seconds")] | None = None
    """Seconds after which the search stops the running trials and starts no new ones. A job that is submitted again
    gets the same time once more. (default: no limit)"""
    cpus_per_trial: Annotated[float, above(0, "CPUs")] = 1.0
    """Number of CPUs that Ray reserves per trial (one training); a fraction such as 0.5 lets trials share a CPU."""
    gpus_per_trial: GpuShare = 0.25
    """Share of one GPU, and of its memory, that each trial (one training) uses; 0.25 puts four trials on a GPU. On a
    cluster without GPUs, 0 is used instead."""
    seed: int = 0
    """Random seed for the choice of settings, for new splits (if --split gives fractions), and for the training of
    every trial. The choices of tpe, asha and pbt also depend on the order in which trials end, so a repeated search may
    differ."""
    ensemble_from_trials: Annotated[int, at_least(1, "member")] | None = None
    """Number of members of an ensemble that is made from the trained models of the search and written to ensemble/ in
    the output: the model of the best trial, then those that improve the ensemble most on the validation split. Only
    models with the features and the model sizes of the best trial are considered. (default: no ensemble)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("features", self.features, "directory")
