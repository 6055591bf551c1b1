"""Configuration of the job `classify`, which classifies the videos of an archive."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Annotated

from vidclf.config.extract import PipelineConfig
from vidclf.config.fields import above, at_least, between, require
from vidclf.config.options import DecisionOptions, EnsembleOptions

UNTIL_CALIBRATED = "left out with --labels until --calibrate-with FEATURES says how far confidence can be trusted"
"""Rule for the options that need calibrated confidence."""


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(DecisionOptions, EnsembleOptions, PipelineConfig):
    """Classify every video of an archive with a trained ensemble (several models whose predictions are averaged), or by
    labels in words."""

    ensemble: str = ""
    """Directory of the trained ensemble, as jobs/train.py writes it. Required without --labels. (default: none)"""
    labels: str | None = None
    """YAML file of labels with one or more descriptions each, such as `cooking: a video of someone cooking`. No
    ensemble is needed: a video gets the label whose descriptions its frames are most similar to, by the --backbone,
    which must be a model of pictures and texts (open_clip/MODEL:TAG, or hf-hub: or local-dir: in open_clip's form).
    (default: none)"""
    calibrate_with: str | None = None
    """Directory of features of a few labelled videos, by the same --backbone, as jobs/extract.py or --save-features
    writes it. Temperature, trust score and OOD score of --labels are fitted on them; without them the confidence is not
    calibrated and no video is abstained on. (default: none)"""
    num_frames: Annotated[int, between(1, 4096, "frames")] | None = None
    """Maximum number of frames sampled per video, with --labels only. (default: as in the stored features, else 16)"""
    input: str | None = None
    """Videos to classify: a directory, a URI or a list file (.csv, .jsonl, .json, .txt or .parquet). Give exactly one
    of --input, --manifest and --features. (default: none)"""
    manifest: str | None = None
    """Table of the videos to classify, as jobs/index.py writes it. Give exactly one of --input, --manifest and
    --features. (default: none)"""
    features: tuple[str, ...] = ()
    """Directory of features that jobs/extract.py or --save-features wrote. Its videos are classified from these
    features, without decoding the video files. For an ensemble of several backbones (CNNs that compute features) give
    one directory per backbone, comma-separated. Give exactly one of --input, --manifest and --features. (default:
    none)"""
    progressive: bool = False
    """Classify each video from a few keyframes first, if validation supports that. Only for videos that are then not
    accepted, decode more frames and classify again. --abstain-risk is about all accepted videos together. Requires an
    ensemble that was trained with --first-look, or --first-ensemble."""
    first_ensemble: str | None = None
    """Directory of another trained ensemble, which classifies the keyframes of each video with --progressive in place
    of --ensemble. It has a backbone (CNN) of its own, so that a cheap one can decide the easy videos. Train it on
    features of jobs/extract.py --sampling keyframes, with the manifest, splits and classes of --ensemble. If --weights
    names more locations than --ensemble has backbones, the others are for this ensemble. (default: --ensemble takes the
    first look itself)"""
    segments: Annotated[float, above(0, "seconds")] | None = None
    """Length in seconds of the segments into which each video is cut. Each segment is classified by itself, in addition
    to the whole video, from the sampled frames that lie in it; the results are written to segments/ in the output. A
    segment without sampled frames gets no row. (default: no segments)"""
    save_features: str | None = None
    """Directory in which the features of the classified videos are saved, in the format of jobs/extract.py. If the
    ensemble has several backbones (CNNs), one subdirectory per backbone is written. --overwrite deletes this directory
    as well as the output. (default: features are not saved)"""

    label_next: Annotated[int, at_least(1, "video")] | None = None
    """Number of videos to list in label_next.csv of the output: those whose labels would teach the ensemble most, the
    most informative first. They are chosen by trust score, classes and, with --features or --save-features, features.
    Also for a classification that this version of vidclf has finished already. (default: no list)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        inputs = [name for name in ("input", "manifest", "features") if getattr(self, name)]
        rule = "given, or --manifest, or --features, and only one of them"
        require(len(inputs) == 1, "input", rule, ", ".join(inputs) or None)
        self._check_labels()
        if self.features:
            for name in ("save_features", "sharpen_blurry", "redo_stale", "retry_quarantined"):
                rule = "left out with --features, which decodes nothing"
                require(not getattr(self, name), name, rule, getattr(self, name))
        rule = "given only with --progressive"
        require(self.first_ensemble is None or self.progressive, "first_ensemble", rule, self.first_ensemble)
        if self.progressive:
            for name in ("features", "save_features", "segments"):
                rule = "left out with --progressive, which does not decode all frames of every video"
                require(not getattr(self, name), name, rule, getattr(self, name))
            rule = (
                "left out with --progressive, which decides easy videos early, so that hard ones would be covered less"
            )
            require(self.coverage is None, "coverage", rule, self.coverage)

    def _check_labels(self) -> None:
        """Check the options of labels from words against the others."""
        if self.labels is None:
            require(bool(self.ensemble), "ensemble", "given, or --labels", self.ensemble or None)
            for name in ("calibrate_with", "num_frames"):
                require(getattr(self, name) is None, name, "given only with --labels", getattr(self, name))
            return
        require(not self.ensemble, "ensemble", "left out with --labels, which needs none", self.ensemble)
        require(len(self.backbone) == 1, "backbone", "one model with --labels", ",".join(self.backbone) or None)
        require(len(self.weights) <= 1, "weights", "one location with --labels", ",".join(self.weights))
        require(len(self.features) <= 1, "features", "one directory with --labels", ",".join(self.features))
        require(not self.progressive, "progressive", "left out with --labels", self.progressive)
        rule = "left out with --features or --calibrate-with, whose frames decide"
        is_free = not self.features and self.calibrate_with is None
        require(self.num_frames is None or is_free, "num_frames", rule, self.num_frames)
        if self.calibrate_with is None:
            rule = UNTIL_CALIBRATED
            by_default = {field.name: field.default for field in fields(self)}
            needing = (
                "abstain_risk",
                "accept_uncertified",
                "coverage",
                "label_next",
                "segments",
                "sharpen_blurry",
                "tta",
            )
            for name in needing:
                require(getattr(self, name) == by_default[name], name, rule, getattr(self, name))

    def check_given(self, names: Collection[str]) -> None:
        """Check that `--abstain-risk` is not given with labels from words that are not calibrated."""
        is_uncalibrated = self.labels is not None and self.calibrate_with is None
        require(not (is_uncalibrated and "abstain_risk" in names), "abstain_risk", UNTIL_CALIBRATED, self.abstain_risk)
