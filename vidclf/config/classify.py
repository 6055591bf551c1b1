"""Configuration of the job `classify`, which classifies the videos of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidclf.config.extract import PipelineConfig
from vidclf.config.fields import above, require
from vidclf.config.options import DecisionOptions, EnsembleOptions


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(DecisionOptions, EnsembleOptions, PipelineConfig):
    """Classify every video of an archive with a trained ensemble (several models whose predictions are averaged)."""

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
    ensemble that was trained with --first-look."""
    segments: Annotated[float, above(0, "seconds")] | None = None
    """Length in seconds of the segments into which each video is cut. Each segment is classified by itself, in addition
    to the whole video, from the sampled frames that lie in it; the results are written to segments/ in the output. A
    segment without sampled frames gets no row. (default: no segments)"""
    save_features: str | None = None
    """Directory in which the features of the classified videos are saved, in the format of jobs/extract.py. If the
    ensemble has several backbones (CNNs), one subdirectory per backbone is written. --overwrite deletes this directory
    as well as the output. (default: features are not saved)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        inputs = [name for name in ("input", "manifest", "features") if getattr(self, name)]
        rule = "given, or --manifest, or --features, and only one of them"
        require(len(inputs) == 1, "input", rule, ", ".join(inputs) or None)
        if self.features:
            for name in ("save_features", "sharpen_blurry", "redo_stale", "retry_quarantined"):
                rule = "left out with --features, which decodes nothing"
                require(not getattr(self, name), name, rule, getattr(self, name))
        if self.progressive:
            for name in ("features", "save_features", "segments"):
                rule = "left out with --progressive, which does not decode all frames of every video"
                require(not getattr(self, name), name, rule, getattr(self, name))
            rule = (
                "left out with --progressive, which decides easy videos early, so that hard ones would be covered less"
            )
            require(self.coverage is None, "coverage", rule, self.coverage)
