"""Configuration of `extract`, `plan` and `quantize`, and the options that `extract` and `classify` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vidclf.config.fields import GpuShare, above, at_least, check_named_once, require, within
from vidclf.config.options import (
    DecodeLimitsOptions,
    DecodeTimeoutOptions,
    LeaseOptions,
    LimitOptions,
    OutputOptions,
    PrecisionOptions,
    SamplingOptions,
)
from vidclf.schema import RejectReason


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(OutputOptions, LimitOptions, PrecisionOptions, DecodeLimitsOptions):
    """Workers and pipeline"""

    decode_workers: Annotated[int, at_least(1, "worker")] | None = None
    """Number of decode workers, one CPU each. Without GPUs these workers also run the CNN. (default: one per CPU of
    the cluster; with GPUs one CPU less per GPU in use, and one less for Ray)"""
    cnn_workers: Annotated[int, at_least(1, "worker")] | None = None
    """Number of workers that only run the CNN. (default: with GPUs as many as their shares allow; without GPUs none,
    since the decode workers run the CNN)"""
    gpus_per_cnn_worker: GpuShare | None = None
    """Share of a GPU that each CNN worker reserves. (default: 1 if the cluster has GPUs, otherwise 0)"""
    frames_in_flight_gib: Annotated[float, above(0, "GiB")] | None = None
    """Memory limit for decoded frames that wait for CNN workers, in GiB over the whole cluster. (default: enough for
    16 videos per decode worker plus 32 per CNN worker)"""
    max_video_gib: Annotated[float, above(0, "GiB")] = 64.0
    """Maximum file size in GiB. Larger videos are rejected without being opened."""
    max_error_rate: Annotated[float, within("[0, 1]")] = 0.5
    """Maximum share of this job's videos that may be rejected. If it is exceeded after at least 20 videos, the job
    stops with exit code 3."""
    retry_quarantined: str | None = None
    """Reject reasons, comma-separated, whose quarantined videos are processed again, or 'all'. (default: none)"""
    redo_stale: bool = False
    """Process a finished video again if its file has changed since."""
    rows_per_shard: Annotated[int, at_least(1, "video")] = 128
    """Number of videos per output file. If a job is killed while it writes a file, the videos of that file are
    processed again."""
    json_logs: bool = False
    """Write one JSON line per video and stage to the log files of the workers, with time, stage, video_id, seconds
    and outcome."""
    profile: bool = False
    """Write Ray's timeline of the last 100,000 tasks to timeline.json in the output, for chrome://tracing or
    Perfetto."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(self.retried_reasons() - {reason.value for reason in RejectReason})
        rule = f"'all' or some of {', '.join(RejectReason)}"
        require(not unknown, "retry_quarantined", rule, ",".join(unknown))

    def retried_reasons(self) -> frozenset[str]:
        """Reject reasons whose quarantined videos are processed again."""
        if self.retry_quarantined is None:
            return frozenset()
        if self.retry_quarantined == "all":
            return frozenset(reason.value for reason in RejectReason)
        return frozenset(self.retry_quarantined.split(","))


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(SamplingOptions, PipelineConfig):
    """Compute features of sampled frames of every video with a pretrained CNN."""

    manifest: str
    """Manifest of the videos, as jobs/index.py writes it."""
    backbone: tuple[str, ...] = ("efficientnet_v2_s",)
    """Pretrained CNN: resnet50 or resnet101 (2048 features per frame), efficientnet_v2_s, efficientnet_v2_m or
    efficientnet_lite0 (1280 features per frame). Several, comma-separated, share one decoding of each video and write
    one directory each into the output."""
    weights: tuple[str, ...] = ("DEFAULT",)
    """Weights of the backbone: DEFAULT for the published ImageNet weights, the file or URI of a state dict, or
    'random'. For several backbones give one value for all, or one per backbone, comma-separated."""
    repeat_tolerance: Annotated[float, within("[0, 255]")] = 0.0
    """Maximum difference, in grey levels averaged over the picture, at which a frame reuses the features of the last
    frame of its video that went through the CNN. With 0 only identical frames reuse features."""
    format: Literal["parquet", "hdf5"] = "parquet"
    """Output format. hdf5 writes one file per split in the format of the reference system, in addition to the Parquet
    files. It also works for an output that is already finished."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("backbone", self.backbone)
        rule = f"one, or one for each of {len(self.backbone)} backbones"
        require(len(self.weights) in (1, len(self.backbone)), "weights", rule, ",".join(self.weights))


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(DecodeTimeoutOptions, LeaseOptions):
    """Convert the weights of a backbone to 8-bit integers for CPUs, calibrated on frames of some videos."""

    input: str
    """Videos for the calibration: a directory, a URI or a list file, for example a manifest."""
    backbone: str
    """Pretrained CNN: resnet50, resnet101, efficientnet_v2_s, efficientnet_v2_m or efficientnet_lite0."""
    weights: str = "DEFAULT"
    """Weights to convert: DEFAULT for the published ImageNet weights, the file or URI of a state dict, or 'random'."""
    output: str
    """File to write, for --weights of jobs/extract.py. Its name must end in .safetensors."""
    sample: Annotated[int, at_least(2, "videos")] = 64
    """Number of videos drawn at random. Three of four calibrate the value ranges; the others measure how much the
    features change."""
    frames_per_video: Annotated[int, at_least(1, "frame")] = 8
    """Number of frames per video, sampled uniformly."""
    seed: int = 0
    """Random seed for drawing the videos."""
    overwrite: bool = False
    """Replace an existing output file. A file that this job did not write is never replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.output.endswith(".safetensors"), "output", "a .safetensors file", self.output)


@dataclass(frozen=True, kw_only=True)
class PlanConfig(SamplingOptions, PrecisionOptions, DecodeTimeoutOptions):
    """Measure a sample of an archive, and estimate workers, time and cost for processing all of it."""

    input: str
    """Videos to plan for: a directory, a URI or a list file, for example a manifest."""
    sample: Annotated[int, at_least(1)] = 200
    """Number of videos, drawn at random, that are decoded for the measurement. Ten of them also go through the
    CNN."""
    seed: int = 0
    """Random seed for drawing the videos."""
    num_videos: Annotated[int, at_least(1)] | None = None
    """Number of videos to plan for, if the input is only part of the archive. (default: number of videos in the
    input)"""
    backbone: str = "efficientnet_v2_s"
    """Pretrained CNN: resnet50, resnet101, efficientnet_v2_s, efficientnet_v2_m or efficientnet_lite0."""
    weights: str = "DEFAULT"
    """Weights of the backbone: DEFAULT for the published ImageNet weights, the file or URI of a state dict, or
    'random'. Random weights need no download and take the same time, but --precision auto may choose differently."""
    cpus: Annotated[int, at_least(1)] | None = None
    """Number of CPUs in the cluster. (default: the CPUs of this machine)"""
    gpus: Annotated[int, at_least(0)] | None = None
    """Number of GPUs in the cluster, each as fast as a GPU of this machine. A MIG slice counts as one GPU. (default:
    the GPUs of this machine)"""
    efficiency: Annotated[float, within("(0, 1]")] = 0.75
    """Fraction of the measured speed that the pipeline reaches. It is below 1 because workers on a busy machine slow
    each other down, and because Ray needs CPU time; 0.75 was measured on 2 cores."""
    deadline: Annotated[float, above(0, "hours")] | None = None
    """Hours within which all videos must be processed. The job then prints the CPUs and GPUs needed. (default:
    print how long the cluster given by --cpus and --gpus takes)"""
    prices: str | None = None
    """YAML file of the machines to choose from, for the cheapest mix that meets --deadline. One line per machine type:
    `name: {cpus: 16, gpus: 0, price: 0.7, max: 20}`, with the price per hour in any currency and the number available.
    (default: none)"""
    write: str | None = None
    """YAML file to write the number of workers to, for --config of jobs/extract.py and jobs/classify.py. (default:
    not written)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prices is None or self.deadline is not None, "prices", "given with --deadline", self.prices)
