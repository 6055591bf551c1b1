"""Configuration of `evaluate` and `diff`."""

from __future__ import annotations

from dataclasses import dataclass

from vidclf.config.fields import ONE_GPU, LeasedConfig, require
from vidclf.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LeasedConfig):
    """Compare predictions with the true labels and write a report: of a classification and a manifest,
    or straight from features and an ensemble."""

    predictions: str | None = None
    """predictions directory, as `jobs/classify.py` writes it (with --manifest)"""
    manifest: str | None = None
    """manifest with the true labels (with --predictions)"""
    features: tuple[str, ...] = ()
    """labelled features to classify, as `jobs/extract.py` writes them: the directory, or an HDF5 file of the
    reference system's format; of an ensemble of several backbones a directory for each, comma-separated
    (with --ensemble, instead of --predictions) (default: none)"""
    ensemble: str | None = None
    """ensemble directory, as `jobs/train.py` writes it (default with --predictions: where it was when they
    were made; the report shows its training curves)"""
    split: str = "test"
    """with --features: train, val, test or all; of an HDF5 file, which split it is"""
    tta: bool = False
    """with --features: test-time augmentation, as in a classification"""
    abstain_risk: float = 0.05
    """with --features: share of wrong labels among the accepted videos that is not to be exceeded, as in a
    classification"""
    gpus: float = 0.0
    """with --features: share of a GPU that the members run on, in a worker of the cluster; 0 runs them on this
    machine's CPUs, without Ray"""
    accept_uncertified: bool = False
    """with --features: accept videos although validation does not support --abstain-risk, as in a classification"""
    output: str
    """directory for index.html, metrics.json, misclassified.csv, abstained.csv and, from features,
    predictions.parquet"""
    base_uri: str | None = None
    """what the locations of videos in the report are relative to (default: the directory that all of them are in)"""
    max_examples: int = 24
    """misclassified videos, and as many undecided ones, shown with their most attended frames"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        rule = "given, or --features, but not both"
        require((self.predictions is None) == bool(self.features), "predictions", rule, self.predictions)
        is_of_run = self.predictions is not None
        rule = "given with --predictions, and not with --features, which have their labels"
        require((self.manifest is not None) == is_of_run, "manifest", rule, self.manifest)
        require(is_of_run or self.ensemble is not None, "ensemble", "given with --features", self.ensemble)
        splits = (*SPLITS, "all")
        require(self.split in splits, "split", f"one of {', '.join(splits)}", self.split)
        require(not is_of_run or self.split == "test", "split", "left out with --predictions", self.split)
        require(not is_of_run or not self.tta, "tta", "left out with --predictions, which have it or not", self.tta)
        rule = "left out with --predictions, whose videos are accepted or not"
        require(not is_of_run or not self.accept_uncertified, "accept_uncertified", rule, self.accept_uncertified)
        require(0 < self.abstain_risk < 1, "abstain_risk", "in (0, 1)", self.abstain_risk)
        require(0 <= self.gpus <= 1, "gpus", ONE_GPU, self.gpus)
        require(not is_of_run or not self.gpus, "gpus", "left out with --predictions, which are made", self.gpus)
        require(self.max_examples >= 0, "max_examples", "at least 0 videos", self.max_examples)


@dataclass(frozen=True, kw_only=True)
class DiffConfig(LeasedConfig):
    """Compare two classifications of the same videos; exit code 1 where too many changed class."""

    before: str
    """predictions directory, or a predictions.parquet that `jobs/evaluate.py` wrote"""
    after: str
    """the same, of the ensemble or pipeline that is to replace it"""
    output: str
    """directory for index.html, diff.json and flipped.parquet"""
    max_flip_rate: float | None = None
    """share of the videos in both that may change their most probable class; above it the exit code is 1
    (default: report only)"""
    base_uri: str | None = None
    """what the locations of videos in the report are relative to (default: the directory that all of them are in)"""
    max_listed: int = 500
    """flipped videos listed on the page; flipped.parquet has all"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        rate = self.max_flip_rate
        require(rate is None or 0 <= rate <= 1, "max_flip_rate", "in [0, 1]", rate)
        require(self.max_listed >= 0, "max_listed", "at least 0 videos", self.max_listed)
