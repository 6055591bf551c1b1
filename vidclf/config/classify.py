"""Configuration of `classify`."""

from __future__ import annotations

from dataclasses import dataclass

from vidclf.config.extract import PipelineConfig
from vidclf.config.fields import require


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(PipelineConfig):
    """Classify every video of an archive with a trained ensemble."""

    input: str | None = None
    """directory, URI or list file of the videos (or --manifest, or --features)"""
    manifest: str | None = None
    """manifest of the videos, as `jobs/index.py` writes it (or --input, or --features)"""
    features: tuple[str, ...] = ()
    """features directory, as `jobs/extract.py` or --save-features wrote it: its videos are classified
    without being decoded (or --input, or --manifest); of an ensemble of several backbones one for each,
    comma-separated (default: none)"""
    ensemble: str
    """ensemble directory, as `jobs/train.py` writes it"""
    tta: bool = False
    """test-time augmentation: let the ensemble see each video backwards, faster and slower as well, and
    vote with the weights that validation gave these views"""
    abstain_risk: float = 0.05
    """share of wrong labels among the accepted videos that is not to be exceeded; less trusted videos are
    abstained on. It is certified on the sources of validation, or where these are too few, estimated; where
    validation supports neither, every video is abstained on"""
    accept_uncertified: bool = False
    """accept videos although validation supports no trust score for --abstain-risk, from the one with the lowest
    estimated error on"""
    progressive: bool = False
    """look at a few keyframes of each video first, and at more only where the ensemble is not sure enough to
    keep the error among all accepted videos under --abstain-risk; needs an ensemble that was trained with
    --first-look"""
    segments: float | None = None
    """length in seconds of segments to classify one by one as well, from the frames sampled in each, into
    segments/ of the output; a segment without a sampled frame has no row (default: none)"""
    sharpen_blurry: bool = False
    """classify the sharpened frames of blurry videos as well, and keep what is trusted more"""
    save_features: str | None = None
    """directory for the features of the videos on the way, a run as `jobs/extract.py` writes it, or of several
    backbones a directory of one for each; it grows together with the output, and --overwrite deletes it too"""
    backbone: tuple[str, ...] = ()
    """refuse to run unless the ensemble was fitted on this backbone, or these, comma-separated (default: take
    the ensemble's)"""
    weights: tuple[str, ...] = ()
    """where the backbone's weights are on this cluster, for several one each, comma-separated, in the order
    of the ensemble (default: where they were at extraction); other weights are refused"""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("input", "manifest", "features") if getattr(self, name)]
        rule = "given, or --manifest, or --features, and only one of them"
        require(len(given) == 1, "input", rule, ", ".join(given) or None)
        require(0 < self.abstain_risk < 1, "abstain_risk", "in (0, 1)", self.abstain_risk)
        segments = self.segments
        require(segments is None or segments > 0, "segments", "above 0 seconds", segments)
        if self.features:
            for name in ("save_features", "sharpen_blurry", "redo_stale", "retry_quarantined"):
                rule = "left out with --features, which decodes nothing"
                require(not getattr(self, name), name, rule, getattr(self, name))
        if self.progressive:
            for name in ("features", "save_features", "segments"):
                rule = "left out with --progressive, which does not look at all frames of every video"
                require(not getattr(self, name), name, rule, getattr(self, name))
