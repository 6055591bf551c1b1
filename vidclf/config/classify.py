"""Configuration of `classify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidclf.config.extract import PipelineConfig
from vidclf.config.fields import above, require
from vidclf.config.options import DecisionOptions, EnsembleOptions


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(DecisionOptions, EnsembleOptions, PipelineConfig):
    """Classify every video of an archive with a trained ensemble."""

    input: str | None = None
    """Videos to classify: a directory, a URI or a list file. Give exactly one of --input, --manifest and
    --features. (default: none)"""
    manifest: str | None = None
    """Manifest of the videos to classify, as jobs/index.py writes it. Give exactly one of --input, --manifest and
    --features. (default: none)"""
    features: tuple[str, ...] = ()
    """Features directory whose videos are classified without decoding them, as jobs/extract.py or --save-features
    wrote it. For an ensemble of several backbones give one directory per backbone, comma-separated. Give exactly one
    of --input, --manifest and --features. (default: none)"""
    progressive: bool = False
    """Classify each video from a few keyframes first, and decode more frames only if the ensemble is too uncertain to
    keep the error below --abstain-risk. Requires an ensemble that was trained with --first-look."""
    segments: Annotated[float, above(0, "seconds")] | None = None
    """Length of segments in seconds. Each segment of a video is also classified by itself, from the frames sampled in
    it, and written to segments/ in the output; a segment without sampled frames gets no row. (default: no
    segments)"""
    save_features: str | None = None
    """Directory in which the features of the classified videos are saved, in the format of jobs/extract.py. For several
    backbones it holds one directory per backbone. --overwrite deletes it together with the output. (default: features
    are not saved)"""

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
