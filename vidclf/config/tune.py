"""Configuration of `tune`."""

from __future__ import annotations

from dataclasses import dataclass

from vidclf.config.fields import ONE_GPU, LeasedConfig, parse_fractions, require


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How a space is searched: the `search` part of a tuning YAML."""

    algorithm: str = "tpe"
    """tpe (Optuna's tree-structured Parzen estimator), random, grid (every combination) or pbt
    (population-based training: the worse half of the trials goes on from the better ones' weights)"""
    scheduler: str = "asha"
    """asha stops trials that are behind others at the same epoch; none lets each run to its end"""
    grace_epochs: int = 10
    """epochs that asha lets each trial run"""
    reduction_factor: float = 3.0
    """asha keeps one of this many trials at grace_epochs, and again at each multiple of it by this factor"""
    startup_trials: int = 10
    """trials drawn at random before tpe draws by their scores"""
    perturbation_epochs: int = 5
    """epochs between two exchanges of pbt"""

    def __post_init__(self) -> None:
        names = ("tpe", "random", "grid", "pbt")
        require(self.algorithm in names, "algorithm", f"one of {', '.join(names)}", self.algorithm)
        require(self.scheduler in ("asha", "none"), "scheduler", "asha or none", self.scheduler)
        is_alone = self.algorithm != "pbt" or self.scheduler == "none"
        require(is_alone, "scheduler", "none with algorithm pbt, which decides itself who goes on", self.scheduler)
        for field in ("grace_epochs", "startup_trials", "perturbation_epochs"):
            require(getattr(self, field) >= 1, field, "at least 1", getattr(self, field))
        require(self.reduction_factor > 1, "reduction_factor", "above 1", self.reduction_factor)


@dataclass(frozen=True, kw_only=True)
class TuneConfig(LeasedConfig):
    """Search for the model and the recipe with the best macro F1 on validation."""

    features: tuple[str, ...]
    """features directory, as `jobs/extract.py` writes it; several, comma-separated, of the same videos, where
    the space chooses between them"""
    space: str
    """YAML of what to search and how, such as tune_configs/default.yaml"""
    output: str
    """directory for best.yaml, trials.parquet and index.html; resubmitting into it continues the search"""
    num_samples: int = 32
    """trials"""
    time_budget: float | None = None
    """seconds after which the search stops its trials and begins no more; submitted again, it goes on for
    as long (default: no limit)"""
    cpus_per_trial: float = 1.0
    """CPU share that Ray reserves for each trial"""
    gpus_per_trial: float = 0.25
    """GPU share of each trial, of its memory too (0 where the cluster has no GPU)"""
    split: str = "manifest"
    """'manifest' for the splits that the videos were indexed with; or train,val,test fractions, to assign
    them anew as `jobs/train.py` does"""
    seed: int = 0
    """seed of the search, of the split where it is assigned anew, and of each trial's training; what tpe, asha
    and pbt do next also depends on the order in which trials end"""
    ensemble_from_trials: int | None = None
    """members of an ensemble to make of the trials in ensemble/ of the output: the best one, and those that
    add most to it on validation, out of the trials on the same features whose models have the best
    one's sizes (default: none)"""
    mlflow: str | None = None
    """URI of an MLflow tracking server to log each trial to, beside TensorBoard's files"""
    mlflow_experiment: str = "vidclf"
    """MLflow experiment that the trials' runs are in"""
    overwrite: bool = False
    """delete what this job wrote into the output directory and start again; refused where that holds other files"""
    dry_run: bool = False
    """say what would be done, with --overwrite also what would be deleted, and stop"""

    def __post_init__(self) -> None:
        require(len(self.features) >= 1, "features", "at least one directory", self.features)
        require(len(set(self.features)) == len(self.features), "features", "each named once", ",".join(self.features))
        require(self.num_samples >= 1, "num_samples", "at least 1 trial", self.num_samples)
        budget = self.time_budget
        require(budget is None or budget > 0, "time_budget", "above 0 seconds", budget)
        require(self.cpus_per_trial > 0, "cpus_per_trial", "above 0 CPUs", self.cpus_per_trial)
        require(0 <= self.gpus_per_trial <= 1, "gpus_per_trial", ONE_GPU, self.gpus_per_trial)
        members = self.ensemble_from_trials
        require(members is None or members >= 1, "ensemble_from_trials", "at least 1 member", members)
        parse_fractions(self.split, "manifest")
