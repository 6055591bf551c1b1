"""Configuration of the jobs `evaluate` (compare predictions with true labels) and `diff` (compare two
classifications)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from vidclf.config.fields import GpuShare, at_least, require, within
from vidclf.config.options import DecisionOptions, ReportOptions

_ACCEPTED_THERE = ", where it was decided which videos are accepted"

WITHOUT_EFFECT = {
    "split": "",
    "tta": ", which were made with it or without",
    "abstain_risk": _ACCEPTED_THERE,
    "accept_uncertified": _ACCEPTED_THERE,
    "coverage": ", which have their prediction sets",
    "gpus": ", which need no computation",
}
"""Options of `evaluate` that are for `--features` only, each with the reason why predictions do not need it."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ReportOptions, DecisionOptions):
    """Compare predictions with the true labels and write a report.

    Give either --predictions and --manifest, for predictions that exist, or --features and --ensemble, from which the
    job makes the predictions. The options --split, --gpus, --tta, --abstain-risk and --accept-uncertified are for
    --features only.
    """

    predictions: str | None = None
    """Directory with the predictions to evaluate, as jobs/classify.py writes it. Requires --manifest. (default: none;
    give --features instead)"""
    manifest: str | None = None
    """Table with the true labels of the videos, as jobs/index.py writes it. Its splits count only for videos that the
    ensemble's record of splits does not decide. Required with --predictions, not allowed with --features. (default:
    none)"""
    features: tuple[str, ...] = ()
    """Features of videos with true labels, which the job classifies and evaluates: a directory that jobs/extract.py
    wrote, or an HDF5 file of the reference system (the older system whose files vidclf reads). For an ensemble of
    several backbones (CNNs) give one directory per backbone, comma-separated. Requires --ensemble. (default: none; give
    --predictions instead)"""
    ensemble: str | None = None
    """Directory of the trained ensemble, as jobs/train.py writes it. With --features, required: the ensemble that
    classifies them. With --predictions, optional: the ensemble that made the predictions; its record of splits decides
    which videos are held out, and the report shows its training curves, calibration, view weights and members. It need
    only be given if its directory has moved.
    (default with --predictions: the directory that the predictions name)"""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split whose videos are evaluated with --features. The ensemble's own record of its splits decides which videos
    are in it; for videos that are neither in the record nor related to one of its videos the features do. An HDF5 file
    contains the videos of a single split, which must be stated here, also if the file name begins with it: train, val
    or test, not 'all'."""
    gpus: GpuShare = 0.0
    """Share of one GPU of the Ray cluster on which --features are classified. 0 uses the CPUs of this machine instead,
    without Ray."""
    output: str
    """Directory for the report: index.html, metrics.json, misclassified.csv and abstained.csv; with --features also
    predictions.parquet."""
    strict: bool = False
    """Refuse an evaluation in which a video cannot be scored: its label is missing or is no class of the ensemble, it
    is not in the manifest, or it has a label but was not classified. Without it, such videos are left out, counted and
    named."""
    max_examples: Annotated[int, at_least(0, "videos")] = 24
    """Maximum number of misclassified videos that the report shows, each with the frames to which the models gave most
    weight (attention). The same maximum applies to the videos on which the ensemble abstained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = "given, or --features, but not both"
        require((self.predictions is None) == bool(self.features), "predictions", rule, self.predictions)
        has_predictions = self.predictions is not None
        rule = "given with --predictions, and not with --features, which have their labels"
        require((self.manifest is not None) == has_predictions, "manifest", rule, self.manifest)
        require(has_predictions or self.ensemble is not None, "ensemble", "given with --features", self.ensemble)
        if has_predictions:
            by_default = {field.name: field.default for field in fields(self)}
            self._refuse(name for name in WITHOUT_EFFECT if getattr(self, name) != by_default[name])

    def check_given(self, names: Collection[str]) -> None:
        """Check that no option of `WITHOUT_EFFECT` is given with `--predictions`."""
        if self.predictions is not None:
            self._refuse(name for name in WITHOUT_EFFECT if name in names)

    def _refuse(self, names: Iterable[str]) -> None:
        """Refuse the first of these options, which have no effect on predictions that exist."""
        for name in names:
            require(False, name, f"left out with --predictions{WITHOUT_EFFECT[name]}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class DiffConfig(ReportOptions):
    """Compare two classifications of the same videos.

    With --max-flip-rate the exit code is 1 if too many videos changed their class.
    """

    before: str
    """First classification, for example that of the ensemble in use: a directory that jobs/classify.py wrote, or a
    predictions.parquet that jobs/evaluate.py wrote."""
    after: str
    """Second classification of the same videos, for example that of a new ensemble: a directory that jobs/classify.py
    wrote, or a predictions.parquet that jobs/evaluate.py wrote."""
    output: str
    """Directory for the comparison: index.html, diff.json and flipped.parquet."""
    max_flip_rate: Annotated[float, within("[0, 1]")] | None = None
    """Maximum share of videos whose most probable class may differ between the two classifications, among the videos in
    both. Above it the exit code is 1. (default: no limit)"""
    max_listed: Annotated[int, at_least(0, "videos")] = 500
    """Maximum number of videos with a different result that index.html lists. flipped.parquet contains all of them."""
