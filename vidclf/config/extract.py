"""Configuration of the jobs `extract` (compute features), `plan` (estimate time and cost) and `quantize` (8-bit
weights).

Also the options of the pipeline that `extract` and `classify` share."""

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
    """Workers and pipeline

    Options that `extract` and `classify` share: number of workers, memory limits, and treatment of rejected videos
    (those that cannot be read or decoded).
    """

    decode_workers: Annotated[int, at_least(1, "worker")] | None = None
    """Number of processes that decode videos; each reserves one CPU. Without GPUs these processes also run the CNN.
    (default: one per CPU of the cluster; with GPUs one fewer for each GPU in use, and one fewer for Ray itself)"""
    cnn_workers: Annotated[int, at_least(1, "worker")] | None = None
    """Number of processes that only run the CNN. (default: with GPUs as many as fit, given --gpus-per-cnn-worker;
    without GPUs none, since the decode workers run the CNN)"""
    gpus_per_cnn_worker: GpuShare | None = None
    """Share of one GPU that each CNN worker reserves; 0.5 puts two workers on a GPU. (default: 1 if the cluster has
    GPUs, otherwise 0)"""
    frames_in_flight_gib: Annotated[float, above(0, "GiB")] | None = None
    """Maximum memory for all decoded frames that wait for CNN workers, in GiB over the whole cluster. At the limit,
    decoding pauses. (default: enough for 16 videos per decode worker plus 32 per CNN worker)"""
    max_video_gib: Annotated[float, above(0, "GiB")] = 64.0
    """Maximum size of a video file in GiB. A larger video is rejected without being opened."""
    max_error_rate: Annotated[float, within("[0, 1]")] = 0.5
    """Maximum share of this job's videos that cannot be read or decoded (rejected videos). After at least 20 finished
    videos, the job stops with exit code 3 as soon as more than this share of them is rejected. If all videos are
    rejected, however few, the exit code is 3 unless this is 1. Videos on which the ensemble abstains do not count."""
    retry_quarantined: str | None = None
    """Process videos again that an earlier job rejected (quarantined) for one of these reasons, comma-separated, or for
    any reason with 'all'. (default: none)"""
    redo_stale: bool = False
    """Process a video again if its file has changed since it was processed."""
    drop_removed: bool = False
    """Delete the results of videos that an earlier job processed into the output and the input no longer holds."""
    rows_per_shard: Annotated[int, at_least(1, "video")] = 128
    """Approximate number of videos per output file: a file is closed at the first block of videos that reaches this
    number. If a job is killed while it writes a file, the next job processes the videos of that file again."""
    json_logs: bool = False
    """Write a JSON line to the worker's log file each time a video has passed a stage of the pipeline, such as
    decoding. Its keys are time, stage, video_id, seconds and outcome."""
    profile: bool = False
    """Write when each of the last 100,000 tasks of Ray ran to timeline.json in the output, to be viewed in
    chrome://tracing or Perfetto."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(self.retried_reasons() - {reason.value for reason in RejectReason})
        rule = f"'all' or some of {', '.join(RejectReason)}"
        require(not unknown, "retry_quarantined", rule, ",".join(unknown))

    def retried_reasons(self) -> frozenset[str]:
        """Set of the reject reasons, such as `not_found`, whose videos are to be processed again; empty without
        `--retry-quarantined`."""
        if self.retry_quarantined is None:
            return frozenset()
        if self.retry_quarantined == "all":
            return frozenset(reason.value for reason in RejectReason)
        return frozenset(self.retry_quarantined.split(","))


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(SamplingOptions, PipelineConfig):
    """Compute a feature vector for each sampled frame of every video with a pretrained CNN."""

    manifest: str
    """Table of the videos, as jobs/index.py writes it (a manifest)."""
    backbone: tuple[str, ...] = ("efficientnet_v2_s",)
    """Pretrained image network: resnet50 or resnet101 (2048 features per frame); efficientnet_v2_s, efficientnet_v2_m
    or efficientnet_lite0 to efficientnet_lite2 (1280 features per frame). Networks of other libraries are named
    timm/NAME[.TAG], hf-hub:ORG/NAME[@REVISION], local-dir:DIR, open_clip/MODEL:TAG or onnx:FILE. Several may be given,
    comma-separated: each video is then decoded once for all of them, and the output gets one subdirectory per
    network."""
    weights: tuple[str, ...] = ("DEFAULT",)
    """Weights of the --backbone: DEFAULT for the published weights, the file or URI of a state dict or of
    weights that jobs/quantize.py wrote, or 'random'. For several backbones give one value for all, or one per backbone,
    comma-separated."""
    repeat_tolerance: Annotated[float, within("[0, 255]")] = 0.0
    """A frame that hardly differs from the last frame of its video that went through the CNN gets the features of that
    frame, to save time. This is the greatest such difference, in grey levels (0 to 255) averaged over the picture.
    With 0 only identical frames share features."""
    format: Literal["parquet", "hdf5"] = "parquet"
    """Output format. parquet: Parquet files only. hdf5: also one HDF5 file per split in the format of the reference
    system (the older system whose files vidclf reads); a later job with hdf5 adds these to a finished output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("backbone", self.backbone)
        rule = f"one, or one for each of {len(self.backbone)} backbones"
        require(len(self.weights) in (1, len(self.backbone)), "weights", rule, ",".join(self.weights))


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(DecodeTimeoutOptions, LeaseOptions):
    """Convert the weights of a backbone (a CNN that computes features) to 8-bit integers, for faster CPUs.

    The value ranges are calibrated on frames of some videos.
    """

    input: str
    """Videos on whose frames the value ranges are calibrated: a directory, a URI or a list file, for example a manifest
    that jobs/index.py wrote."""
    backbone: str
    """Pretrained image network whose weights are converted, by a name as for jobs/extract.py."""
    weights: str = "DEFAULT"
    """Weights to convert: DEFAULT for the published ImageNet weights, the file or URI of a state dict, or 'random'."""
    output: str
    """File for the 8-bit weights, which jobs/extract.py accepts as --weights. Its name must end in .safetensors."""
    sample: Annotated[int, at_least(2, "videos")] = 64
    """Number of videos drawn at random from the input. Three of four are used to calibrate the value ranges; with the
    others the change of the features by the conversion is measured."""
    frames_per_video: Annotated[int, at_least(1, "frame")] = 8
    """Number of frames sampled per video, evenly over its duration."""
    seed: int = 0
    """Random seed for drawing the videos."""
    overwrite: bool = False
    """Replace an existing output file. A file that jobs/quantize.py did not write is never replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.output.endswith(".safetensors"), "output", "a .safetensors file", self.output)


@dataclass(frozen=True, kw_only=True)
class PlanConfig(SamplingOptions, PrecisionOptions, DecodeTimeoutOptions):
    """Measure the processing of some videos of an archive, and estimate workers, time and cost for all of them."""

    input: str
    """Videos whose processing is planned: a directory, a URI or a list file, for example a manifest that jobs/index.py
    wrote."""
    sample: Annotated[int, at_least(1)] = 200
    """Number of videos, drawn at random from the input, that are decoded for the measurement. Ten of them also go
    through the CNN."""
    seed: int = 0
    """Random seed for drawing the videos."""
    num_videos: Annotated[int, at_least(1)] | None = None
    """Number of videos for which time and cost are estimated, if the input is only a part of the archive. (default:
    number of videos in the input)"""
    backbone: str = "efficientnet_v2_s"
    """Pretrained image network that is to compute features, by a name as for jobs/extract.py."""
    weights: str = "DEFAULT"
    """Weights of the backbone: DEFAULT for the published ImageNet weights, the file or URI of a state dict, or
    'random'. With random weights nothing is downloaded and the CNN takes the same time, but --precision auto may choose
    another number format."""
    cpus: Annotated[int, at_least(1)] | None = None
    """Number of CPUs in the cluster for which the job plans. (default: the CPUs of this machine)"""
    gpus: Annotated[int, at_least(0)] | None = None
    """Number of GPUs in the cluster for which the job plans, each as fast as a GPU of this machine. A MIG slice (a part
    of a GPU that appears as a device of its own) counts as one GPU. (default: the GPUs of this machine)"""
    efficiency: Annotated[float, within("(0, 1]")] = 0.75
    """Speed of a whole job as a fraction of the speed measured for single workers, used in the estimate. It is below 1
    because workers on a busy machine slow each other down and Ray needs CPU time. The default is a rule of thumb:
    compare the estimate with the rate in the summary.json of a finished job."""
    deadline: Annotated[float, above(0, "hours")] | None = None
    """Hours within which all videos must be processed. The job then prints how many CPUs and GPUs are needed. (default:
    print how long the cluster given by --cpus and --gpus takes)"""
    prices: str | None = None
    """YAML file with the machine types from which the cheapest mix is chosen that meets --deadline. One line per type:
    `name: {cpus: 16, gpus: 0, price: 0.7, max: 20}`, where price is per hour in any currency and max is the number
    available. (default: none)"""
    write: str | None = None
    """YAML file into which the numbers of workers are written, for --config of jobs/extract.py and jobs/classify.py.
    (default: not written)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prices is None or self.deadline is not None, "prices", "given with --deadline", self.prices)
