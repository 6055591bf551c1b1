"""Options that several jobs share, as mix-ins: each field, its default, range and help text is written once.

A job's configuration inherits the mix-ins that it needs and adds its own fields. The docstring of a mix-in is the
heading of its options in `--help`. A job in which an option means something else declares the field again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import above, at_least, between, check, parse_fractions, require, within

Precision = Literal["auto", "fp32", "bf16", "int8"]

Sampling = Literal["uniform", "middle", "random", "keyframes"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of any kind, checked on construction."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class LeaseOptions(Options):
    """Output"""

    take_over: bool = False
    """Take over the output from another job that is still writing it; that job then stops. Not needed if the other
    job has died."""


@dataclass(frozen=True, kw_only=True)
class DryRunOptions(Options):
    """Output"""

    dry_run: bool = False
    """Print what the job would do, including what it would delete, and stop without changing any file."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(LeaseOptions, DryRunOptions):
    """Output"""

    output: str
    """Output directory. A job that is submitted again with the same directory continues where it stopped."""
    overwrite: bool = False
    """Delete the earlier output of this job from the output directory, and start from scratch. Refused if the directory
    holds other files."""


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Options):
    """Number of videos"""

    limit: Annotated[int, at_least(1, "video")] | None = None
    """Process only the first N videos of the input. (default: all videos)"""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Frame sampling"""

    num_frames: Annotated[int, between(1, 4096, "frames")] = 73
    """Maximum number of frames sampled per video."""
    sampling: Sampling = "uniform"
    """How frames are chosen. uniform: evenly over the whole video. middle, random: evenly over a clip from the middle
    or from a random position, see --clip-duration. keyframes: only frames that decode without other frames, which is
    much cheaper but only roughly even."""
    clip_duration: float | None = None
    """Length of the clip in seconds. Required with --sampling middle and random, not allowed otherwise. (default:
    none)"""
    skip_edges: Annotated[float, within("[0, 0.5)")] = 0.0
    """Fraction of the duration that is skipped at the start of each video and again at its end, for example to leave
    out titles and credits."""
    avoid_black: bool = True
    """Replace a black frame with a nearby frame that is not black."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_clip, clip = self.sampling in ("middle", "random"), self.clip_duration
        rule = "above 0 seconds with --sampling middle or random, and not given otherwise"
        require(clip is not None and clip > 0 if needs_clip else clip is None, "clip_duration", rule, clip)


@dataclass(frozen=True, kw_only=True)
class DecodeTimeoutOptions(Options):
    """Limits for decoding"""

    decode_timeout: Annotated[float, above(0, "seconds")] = 60.0
    """Time limit for decoding one video, in seconds. Every second of the video's duration adds one second to the
    limit. A video that takes longer is rejected."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimitsOptions(DecodeTimeoutOptions):
    """Limits for decoding"""

    decode_memory_gib: Annotated[float, above(0, "GiB")] = 2.0
    """Memory limit for decoding one video, in GiB. A video that needs more is rejected."""


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(Options):
    """Precision of the CNN"""

    precision: Precision = "auto"
    """Number format in which the CNN computes. auto: bf16 if the processor or GPU supports it and the features agree
    with fp32 (mean cosine of at least 0.99 on sample photos); otherwise TF32 on a GPU under the same condition;
    otherwise fp32. int8: CPUs only, with --weights written by jobs/quantize.py, for which auto also selects int8."""


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    """Ensemble and its backbones"""

    ensemble: str
    """Directory of the ensemble, as jobs/train.py writes it."""
    backbone: tuple[str, ...] = ()
    """Refuse to start unless the ensemble was trained on features of this backbone. Several names are separated by
    commas. (default: accept the backbones of the ensemble)"""
    weights: tuple[str, ...] = ()
    """Files or URIs of the backbone weights, if they have moved since the features were extracted. For an ensemble
    of several backbones give one per backbone, comma-separated, in the order of the ensemble. Other weights than
    those of the extraction are refused. (default: the locations used at extraction)"""
    sharpen_blurry: bool = False
    """For blurry videos, also classify sharpened frames, and keep the prediction with the higher trust score."""


@dataclass(frozen=True, kw_only=True)
class DecisionOptions(Options):
    """Accepting predictions or abstaining"""

    tta: bool = False
    """Test-time augmentation: classify each video also reversed, faster and slower, and average the views with the
    weights fitted on the validation split."""
    abstain_risk: Annotated[float, within("(0, 1)")] = 0.05
    """Maximum share of wrong labels among accepted videos. The job abstains on videos whose trust score is too low
    for it. The trust threshold is certified on the sources of the validation split, or only estimated if there are too
    few sources. If neither supports the risk, the job abstains on every video."""
    accept_uncertified: bool = False
    """Accept videos even if the validation split supports no trust threshold for --abstain-risk. The threshold with
    the lowest estimated error is used."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """Train, validation and test split"""

    split: str = "manifest"
    """'manifest' keeps the splits from the manifest of the videos. Three fractions for train, val and test, such as
    0.7,0.2,0.1, assign new splits by label, sublabel and source, with near duplicates in the same split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_fractions(self.split, "manifest")


@dataclass(frozen=True, kw_only=True)
class MlflowOptions(Options):
    """Tracking in MLflow"""

    mlflow: str | None = None
    """URI of an MLflow tracking server to which every training run is logged, in addition to TensorBoard files.
    (default: TensorBoard files only)"""
    mlflow_experiment: str = "vidclf"
    """Name of the MLflow experiment that contains the runs."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(LeaseOptions, DryRunOptions):
    """Report"""

    base_uri: str | None = None
    """Directory or URI relative to which the report shows the locations of videos. (default: the directory that
    contains all of them)"""
