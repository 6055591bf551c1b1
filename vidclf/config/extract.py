"""Configuration of `extract`, `plan` and `quantize`, and what `extract` and `classify` share."""

from __future__ import annotations

from dataclasses import dataclass

from vidclf.config.fields import ONE_GPU, PRECISIONS, SAMPLING_MODES, LeasedConfig, require, require_clip
from vidclf.schema import RejectReason


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(LeasedConfig):
    """What extract and classify share: the run directory and the resources of each operator."""

    output: str
    """directory for the results; resubmitting into it continues"""
    limit: int | None = None
    """use only the first N videos"""
    decode_workers: int | None = None
    """decode workers, one CPU each (default: every CPU); without GPUs they run the CNN too"""
    cnn_workers: int | None = None
    """CNN workers apart from the decode workers (default: as many as the GPUs hold; without GPUs none)"""
    gpus_per_cnn_worker: float | None = None
    """GPU share of each CNN worker (default: 1 where the cluster has a GPU, else 0)"""
    precision: str = "auto"
    """what the CNN computes in: fp32, bf16, or auto, which takes bf16 where the processor or GPU has it and
    the features stay those of fp32 (mean cosine of at least 0.99 on sample photographs), on a GPU then TF32
    under the same condition, and else fp32; int8, on CPUs, with --weights that jobs/quantize.py wrote, where
    auto takes it too"""
    frames_in_flight_gib: float | None = None
    """memory that decoded frames waiting for CNN workers may take, in GiB over the whole cluster (default:
    16 videos for each decode worker and 32 for each CNN worker)"""
    decode_timeout: float = 60.0
    """seconds after which a video is given up, plus one for each second of its duration"""
    decode_memory_gib: float = 2.0
    """memory that decoding one video may take, in GiB"""
    max_video_gib: float = 64.0
    """size of a file, in GiB, above which a video is not opened"""
    max_error_rate: float = 0.5
    """share of this job's videos that may be rejected; above it, after 20 videos, the job stops (exit 3)"""
    retry_quarantined: str | None = None
    """reject reasons, comma-separated, whose quarantined videos are tried again, or 'all'"""
    redo_stale: bool = False
    """do finished videos again whose file has changed since, under the same name"""
    rows_per_shard: int = 128
    """videos per output shard; also what a killed write loses and repeats"""
    json_logs: bool = False
    """write a JSON line for each video and stage to the workers' logs: time, stage, video_id, seconds, outcome"""
    profile: bool = False
    """write Ray's timeline of the job's tasks (the last 100,000) to timeline.json in the output, for
    chrome://tracing or Perfetto"""
    overwrite: bool = False
    """delete what this job wrote into the output directory and start again; refused where that holds other files"""
    dry_run: bool = False
    """say what would be done, with --overwrite also what would be deleted, and stop"""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, "limit", "at least 1 video", self.limit)
        require(self.rows_per_shard >= 1, "rows_per_shard", "at least 1 video", self.rows_per_shard)
        for field in ("decode_workers", "cnn_workers"):
            value = getattr(self, field)
            require(value is None or value >= 1, field, "at least 1 worker", value)
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        require(self.decode_timeout > 0, "decode_timeout", "above 0 seconds", self.decode_timeout)
        require(self.decode_memory_gib > 0, "decode_memory_gib", "above 0 GiB", self.decode_memory_gib)
        require(0 <= self.max_error_rate <= 1, "max_error_rate", "in [0, 1]", self.max_error_rate)
        unknown = sorted(self.retried_reasons() - {reason.value for reason in RejectReason})
        rule = f"'all' or some of {', '.join(RejectReason)}"
        require(not unknown, "retry_quarantined", rule, ",".join(unknown))
        in_flight = self.frames_in_flight_gib
        require(in_flight is None or in_flight > 0, "frames_in_flight_gib", "above 0 GiB", in_flight)
        require(self.max_video_gib > 0, "max_video_gib", "above 0 GiB", self.max_video_gib)
        share = self.gpus_per_cnn_worker
        require(share is None or 0 <= share <= 1, "gpus_per_cnn_worker", ONE_GPU, share)

    def retried_reasons(self) -> frozenset[str]:
        if self.retry_quarantined is None:
            return frozenset()
        if self.retry_quarantined == "all":
            return frozenset(reason.value for reason in RejectReason)
        return frozenset(self.retry_quarantined.split(","))


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(PipelineConfig):
    """Embed sampled frames of every video with a pretrained CNN."""

    manifest: str
    """manifest of the videos, as `jobs/index.py` writes it"""
    backbone: tuple[str, ...] = ("efficientnet_v2_s",)
    """resnet50, resnet101 (2048-d), efficientnet_v2_s, efficientnet_v2_m or efficientnet_lite0 (1280-d);
    several, comma-separated, share one decoding and get a directory each in the output"""
    weights: tuple[str, ...] = ("DEFAULT",)
    """DEFAULT (the published ImageNet weights), file or URI of a state dict, or 'random'; one for every
    backbone, or one each"""
    num_frames: int = 73
    """frames sampled from each video, at most"""
    sampling: str = "uniform"
    """uniform over the whole video; over a 'middle' or 'random' clip of it; or 'keyframes', evenly chosen:
    far cheaper to decode, and only nearly uniform"""
    clip_duration: float | None = None
    """length of the clip of 'middle' and 'random', in seconds"""
    skip_edges: float = 0.0
    """share of the duration left out at the beginning and again at the end, such as titles and credits"""
    avoid_black: bool = True
    """take another frame near by where a sampled one is black"""
    repeat_tolerance: float = 0.0
    """grey levels (mean absolute difference over the picture) by which a frame may differ from the last new one
    of its video and still take that one's features; 0 saves only frames that are the same to the last bit"""
    format: str = "parquet"
    """parquet; or hdf5, which writes the reference system's files, one a split, beside the Parquet shards,
    also of a run that is already done"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.backbone) >= 1, "backbone", "at least one", self.backbone)
        require(len(set(self.backbone)) == len(self.backbone), "backbone", "each named once", ",".join(self.backbone))
        rule = f"one, or one for each of {len(self.backbone)} backbones"
        require(len(self.weights) in (1, len(self.backbone)), "weights", rule, ",".join(self.weights))
        require(self.sampling in SAMPLING_MODES, "sampling", f"one of {', '.join(SAMPLING_MODES)}", self.sampling)
        require(self.format in ("parquet", "hdf5"), "format", "parquet or hdf5", self.format)
        require_clip(self.sampling, self.clip_duration)
        require(0 <= self.skip_edges < 0.5, "skip_edges", "in [0, 0.5)", self.skip_edges)
        require(1 <= self.num_frames <= 4096, "num_frames", "between 1 and 4096 frames", self.num_frames)
        require(0 <= self.repeat_tolerance <= 255, "repeat_tolerance", "in [0, 255]", self.repeat_tolerance)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(LeasedConfig):
    """Make weights of 8-bit integers for CPUs, calibrated on frames of some videos."""

    input: str
    """directory, URI or list file of the videos, such as a manifest"""
    backbone: str
    """resnet50, resnet101, efficientnet_v2_s, efficientnet_v2_m or efficientnet_lite0"""
    weights: str = "DEFAULT"
    """as for extract"""
    output: str
    """file to write (.safetensors), for --weights of extract"""
    sample: int = 64
    """videos whose frames are looked at, at random; on three of four the ranges are calibrated, on the others the
    drift is measured"""
    frames_per_video: int = 8
    """frames of each, sampled uniformly"""
    seed: int = 0
    """seed of the sample"""
    decode_timeout: float = 60.0
    """seconds after which a video is given up, plus one for each second of its duration"""
    overwrite: bool = False
    """replace the output if it is there; a file that this job did not write is never replaced"""

    def __post_init__(self) -> None:
        require(self.sample >= 2, "sample", "at least 2 videos", self.sample)
        require(self.frames_per_video >= 1, "frames_per_video", "at least 1 frame", self.frames_per_video)
        require(self.decode_timeout > 0, "decode_timeout", "above 0 seconds", self.decode_timeout)
        require(self.output.endswith(".safetensors"), "output", "a .safetensors file", self.output)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Measure a sample of an archive, and say what a cluster needs for all of it: workers, time and cost."""

    input: str
    """directory, URI or list file of the videos, such as a manifest"""
    sample: int = 200
    """videos that are decoded, at random; ten of them go through the CNN too"""
    seed: int = 0
    """seed of the sample"""
    num_videos: int | None = None
    """videos to plan for, where the input is only a part of them (default: those of the input)"""
    backbone: str = "efficientnet_v2_s"
    """resnet50, resnet101, efficientnet_v2_s, efficientnet_v2_m or efficientnet_lite0"""
    weights: str = "DEFAULT"
    """as for extract; 'random' takes as long and needs no download, but may choose another precision"""
    num_frames: int = 73
    """frames sampled from each video, at most"""
    sampling: str = "uniform"
    """as for extract"""
    clip_duration: float | None = None
    """length of the clip of 'middle' and 'random', in seconds"""
    skip_edges: float = 0.0
    """as for extract"""
    avoid_black: bool = True
    """as for extract"""
    precision: str = "auto"
    """as for extract"""
    decode_timeout: float = 60.0
    """seconds after which a video is given up, plus one for each second of its duration"""
    cpus: int | None = None
    """CPUs of the cluster (default: those of this machine)"""
    gpus: int | None = None
    """GPUs of the cluster, each as fast as one of this machine's; a MIG slice counts as one (default: those
    of this machine)"""
    efficiency: float = 0.75
    """share of the measured speed that the pipeline keeps, in (0, 1]: workers of a busy machine slow each
    other down, and Ray needs its part (0.75 was measured on 2 cores)"""
    deadline: float | None = None
    """hours in which all videos must be done (default: say how long --cpus and --gpus take)"""
    prices: str | None = None
    """YAML with the machines to choose from, `name: {cpus: 16, gpus: 0, price: 0.7, max: 20}` for each, the price
    for an hour in any currency and `max` how many there are; with --deadline: the cheapest mix that meets it"""
    write: str | None = None
    """YAML to write the pools to, for --config of extract and classify"""

    def __post_init__(self) -> None:
        for field in ("sample", "num_videos", "num_frames", "cpus"):
            value = getattr(self, field)
            require(value is None or value >= 1, field, "at least 1", value)
        require(self.gpus is None or self.gpus >= 0, "gpus", "at least 0", self.gpus)
        require(0 < self.efficiency <= 1, "efficiency", "in (0, 1]", self.efficiency)
        require(self.deadline is None or self.deadline > 0, "deadline", "above 0 hours", self.deadline)
        require(self.prices is None or self.deadline is not None, "prices", "given with --deadline", self.prices)
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        require(self.sampling in SAMPLING_MODES, "sampling", f"one of {', '.join(SAMPLING_MODES)}", self.sampling)
        require_clip(self.sampling, self.clip_duration)
        require(0 <= self.skip_edges < 0.5, "skip_edges", "in [0, 0.5)", self.skip_edges)
        require(self.decode_timeout > 0, "decode_timeout", "above 0 seconds", self.decode_timeout)
