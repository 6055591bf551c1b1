"""Configuration of `evaluate` and `diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import GpuShare, at_least, require, within
from vidclf.config.options import DecisionOptions, ReportOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ReportOptions, DecisionOptions):
    """Compare predictions with the true labels and write a report.

    The predictions come from --predictions and --manifest, or are made from --features and --ensemble. The options
    --split, --gpus, --tta, --abstain-risk and --accept-uncertified are for --features only.
    """

    predictions: str | None = None
    """Predictions directory to evaluate, as jobs/classify.py writes it. Requires --manifest. (default: none; give
    --features instead)"""
    manifest: str | None = None
    """Manifest with the true labels. Required with --predictions, not allowed with --features. (default: none)"""
    features: tuple[str, ...] = ()
    """Labelled features to classify and evaluate: a directory that jobs/extract.py wrote, or an HDF5 file in the
    format of the reference system. For an ensemble of several backbones give one directory per backbone,
    comma-separated. Requires --ensemble. (default: none; give --predictions instead)"""
    ensemble: str | None = None
    """Ensemble directory, as jobs/train.py writes it. Required with --features; with --predictions the report shows
    its training curves. (default with --predictions: its location when the predictions were made)"""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split to evaluate with --features. For an HDF5 file, the split that the file contains."""
    gpus: GpuShare = 0.0
    """Share of a GPU on which a worker of the cluster classifies --features. 0 uses the CPUs of this machine, without
    Ray."""
    output: str
    """Report directory, for index.html, metrics.json, misclassified.csv and abstained.csv; with --features also
    predictions.parquet."""
    max_examples: Annotated[int, at_least(0, "videos")] = 24
    """Maximum number of misclassified videos shown with their most attended frames. The same maximum applies to the
    videos on which the classifier abstained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = "given, or --features, but not both"
        require((self.predictions is None) == bool(self.features), "predictions", rule, self.predictions)
        has_predictions = self.predictions is not None
        rule = "given with --predictions, and not with --features, which have their labels"
        require((self.manifest is not None) == has_predictions, "manifest", rule, self.manifest)
        require(has_predictions or self.ensemble is not None, "ensemble", "given with --features", self.ensemble)
        if has_predictions:
            rule = "left out with --predictions"
            require(self.split == "test", "split", rule, self.split)
            require(not self.tta, "tta", f"{rule}, which were made with it or without", self.tta)
            made = f"{rule}, where it was decided which videos are accepted"
            require(self.abstain_risk == DecisionOptions.abstain_risk, "abstain_risk", made, self.abstain_risk)
            require(not self.accept_uncertified, "accept_uncertified", made, self.accept_uncertified)
            require(not self.gpus, "gpus", f"{rule}, which need no computation", self.gpus)


@dataclass(frozen=True, kw_only=True)
class DiffConfig(ReportOptions):
    """Compare two classifications of the same videos; exit code 1 if too many videos changed class."""

    before: str
    """Predictions directory to compare against, or a predictions.parquet that jobs/evaluate.py wrote."""
    after: str
    """Predictions of the ensemble or pipeline that is to replace the one of --before, in the same form."""
    output: str
    """Directory for index.html, diff.json and flipped.parquet."""
    max_flip_rate: Annotated[float, within("[0, 1]")] | None = None
    """Maximum share of the common videos whose most probable class may change. Above it the exit code is 1. (default:
    no limit)"""
    max_listed: Annotated[int, at_least(0, "videos")] = 500
    """Maximum number of changed videos listed on the page. flipped.parquet contains all of them."""
