"""Options that several jobs share: each option, with its default, range and help text, is written once here.

Each class below is a mix-in (a base class with a few fields); the configuration of a job inherits those that it needs
and adds its own fields. The first line of a mix-in's docstring is the heading of its options in `--help`. A job in
which an option means something else declares the field again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import above, at_least, between, check, parse_fractions, require, within

Precision = Literal["auto", "fp32", "bf16", "int8"]
"""Values of `--precision`, the number format of a CNN."""

Sampling = Literal["uniform", "middle", "random", "keyframes"]
"""Values of `--sampling`, the choice of frames in a video."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base class of all groups of options. The rule of every field is checked when an object is made; ConfigError if a
    value breaks its rule."""

    def __post_init__(self) -> None:
        check(self)

    def check_given(self, names: Collection[str]) -> None:
        """Check that no option is among `names` that has no effect here, even if its value is the default.

        `names`: the options on the command line or in a call from Python. Those of `--config` are not among them, since
        a `run_config.yaml` holds every option. Raises ConfigError.
        """


@dataclass(frozen=True, kw_only=True)
class LeaseOptions(Options):
    """Output

    Option `--take-over`, for jobs that hold a lease (a claim on an output directory against other jobs).
    """

    take_over: bool = False
    """Take the output away from another job that is still writing there; the other job then stops. Not needed if the
    other job has died."""


@dataclass(frozen=True, kw_only=True)
class DryRunOptions(Options):
    """Output

    Option `--dry-run`, for jobs that can print their plan instead of running.
    """

    dry_run: bool = False
    """Print what the job would do, including what it would delete, and stop without changing any file."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(LeaseOptions, DryRunOptions):
    """Output

    Options of jobs that write an output directory and continue there when they are submitted again.
    """

    output: str
    """Output directory. A job that is submitted again with the same directory continues where it stopped."""
    overwrite: bool = False
    """Delete what an earlier job of the same sort wrote into the output directory, and start from scratch. Refused if
    the directory contains any other files."""


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Options):
    """Number of videos

    Option `--limit`, for a trial on a few videos.
    """

    limit: Annotated[int, at_least(1, "video")] | None = None
    """Number of videos to process for a trial, spread evenly over the classes and splits of the manifest, or the first
    ones of an input without labels. (default: all videos)"""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Frame sampling

    Options that decide which frames of a video are decoded.
    """

    num_frames: Annotated[int, between(1, 4096, "frames")] = 73
    """Maximum number of frames sampled per video."""
    sampling: Sampling = "uniform"
    """How the frames of a video are chosen. uniform: evenly over the whole video. middle: evenly over a clip from the
    middle of the video, as long as --clip-duration. random: the same from a random position. keyframes: only frames
    that are stored without reference to other frames; this is much cheaper, but the frames are only roughly even."""
    clip_duration: float | None = None
    """Length in seconds of the clip from which frames are taken with --sampling middle or random. Required there, not
    allowed otherwise. (default: none)"""
    skip_edges: Annotated[float, within("[0, 0.5)")] = 0.0
    """Fraction of the video's duration that is skipped at its start, and again at its end, for example to leave out
    titles and credits."""
    avoid_black: bool = True
    """Take a nearby frame instead, where a chosen frame is black."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_clip, clip = self.sampling in ("middle", "random"), self.clip_duration
        rule = "above 0 seconds with --sampling middle or random, and not given otherwise"
        require(clip is not None and clip > 0 if needs_clip else clip is None, "clip_duration", rule, clip)


@dataclass(frozen=True, kw_only=True)
class DecodeTimeoutOptions(Options):
    """Limits for decoding

    Option `--decode-timeout`. A video beyond the limit is rejected.
    """

    decode_timeout: Annotated[float, above(0, "seconds")] = 60.0
    """Time limit for decoding one video, in seconds, to which the duration of the video is added: with 60, a video of
    300 seconds may take 360. A video that takes longer is rejected."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimitsOptions(DecodeTimeoutOptions):
    """Limits for decoding

    Time and memory that decoding one video may take. A video beyond a limit is rejected.
    """

    decode_memory_gib: Annotated[float, above(0, "GiB")] = 2.0
    """Maximum memory for decoding one video, in GiB. A video that needs more is rejected."""


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(Options):
    """Precision of the CNN

    Option `--precision`, the number format of the computation.
    """

    precision: Precision = "auto"
    """Number format in which the CNN computes. int8: 8-bit integers; requires --weights that jobs/quantize.py wrote,
    which run on CPUs only and in no other format. fp32, bf16: 32 or 16 bits, for all other weights. auto: int8 for
    weights of jobs/quantize.py. For other weights, bf16 if the processor or GPU supports it and the features agree with
    those in fp32 (mean cosine of at least 0.99 on sample photos); otherwise TF32 on a GPU under the same condition;
    otherwise fp32."""


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    """Ensemble and its backbones

    Options that name a trained ensemble and the pretrained CNNs (backbones) that compute its features.
    """

    ensemble: str
    """Directory of the trained ensemble, as jobs/train.py writes it."""
    backbone: tuple[str, ...] = ()
    """Backbone (CNN) that the ensemble is expected to use; for several give all, comma-separated, in the order of the
    ensemble. The job refuses to start if the ensemble was trained on features of another one. (default: whichever the
    ensemble uses)"""
    weights: tuple[str, ...] = ()
    """Files or URIs of the weights of the backbone (CNN), if they have moved since the features for training were
    extracted. For an ensemble of several backbones give one per backbone, comma-separated, in the order in which the
    ensemble lists its backbones. Weights with another content are refused. (default: the locations used at
    extraction)"""
    sharpen_blurry: bool = False
    """Classify each blurry video twice, from its frames as they are and from sharpened frames, and keep the prediction
    with the higher trust score (estimated probability of being right). The held-out videos, which support
    --abstain-risk, are not sharpened."""


@dataclass(frozen=True, kw_only=True)
class DecisionOptions(Options):
    """Accepting predictions or abstaining

    Options that decide when the predicted label of a video is used, and when the video gets no label.
    """

    tta: bool = False
    """Test-time augmentation: also classify each video reversed, faster and slower, and average these predictions with
    the one for the original, by weights that training fitted on held-out videos."""
    abstain_risk: Annotated[float, within("(0, 1)")] = 0.05
    """Maximum share of wrong labels among the accepted videos, as far as the held-out videos support it. A video is
    accepted if its trust score (estimated probability that the label is right) reaches a threshold, and the video is
    not too unlike the training data; on the others the job abstains, giving no label. The threshold is chosen on the
    held-out videos: certified with 90 % confidence, for sources (recordings) like theirs, if enough sources are
    right; otherwise only estimated, which promises nothing. If they support no threshold, the job abstains on every
    video."""
    coverage: Annotated[float, within("(0, 1)")] | None = None
    """Probability with which the prediction set of a video shall hold its true class, such as 0.95. The set lists the
    classes that are possible for the video, as few as the held-out videos of each class support, for sources
    (recordings) like theirs. A class of which too few sources were held out is in every set. (default: no prediction
    sets)"""
    accept_uncertified: bool = False
    """Accept videos even if the held-out videos support no threshold of the trust score for --abstain-risk. The
    threshold with the lowest estimated error there is then used."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """Train, validation and test split

    Option `--split` of the jobs that train: which videos are for training, which for validation, which for the test.
    """

    split: str = "manifest"
    """'manifest' keeps the splits that jobs/index.py wrote into the manifest. Three fractions for train, val and test,
    such as 0.7,0.2,0.1, replace them by new splits: each label and sublabel is divided in these fractions, and videos
    of one source (recording) or near duplicates get the same split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_fractions(self.split, "manifest")


@dataclass(frozen=True, kw_only=True)
class MlflowOptions(Options):
    """Tracking in MLflow

    Options for sending the curves and settings of every training to an MLflow server.
    """

    mlflow: str | None = None
    """URI of an MLflow tracking server to which the curves and settings of every training are sent, in addition to the
    TensorBoard files. (default: TensorBoard files only)"""
    mlflow_experiment: str = "vidclf"
    """Name of the experiment on the --mlflow server under which the trainings are stored."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(LeaseOptions, DryRunOptions):
    """Report

    Option `--base-uri` of the jobs that write a report.
    """

    base_uri: str | None = None
    """Directory or URI that the report leaves out at the start of the location of each video, to keep the text short.
    (default: the deepest directory that contains all videos)"""
