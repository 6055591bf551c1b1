"""Configuration: one frozen dataclass per job. Flags, YAML keys and --help are derived from these.

The string under a field is its help text and states its unit; `cli.py` reads it from the source, so
no flag is described twice. A range is checked on construction: a job that starts has a valid one.
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from typing import Any

from vidclf.schema import SPLITS, RejectReason

SAMPLING_MODES = ("uniform", "middle", "random", "keyframes")
PRECISIONS = ("auto", "fp32", "bf16", "int8")

SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Bytes of each unit that a size may be given in."""


class ConfigError(ValueError):
    """The user asked for something that cannot be done; said in one line, before any work (exit 2)."""


def require(holds: bool, field: str, rule: str, value: object) -> None:
    """Raise ConfigError naming the field (as a flag), the rule and the value, unless it holds."""
    if not holds:
        raise ConfigError(f"--{field.replace('_', '-')} must be {rule}, got {value!r}")


def require_clip(sampling: str, clip: float | None) -> None:
    """ConfigError unless the sampling has a clip's length where it samples a clip, and only there."""
    needs_clip = sampling in ("middle", "random")
    rule = "above 0 seconds with --sampling middle or random, and not given otherwise"
    require(clip is not None and clip > 0 if needs_clip else clip is None, "clip_duration", rule, clip)


def parse_fractions(split: str, otherwise: str = "none") -> tuple[float, float, float] | None:
    """`"0.7,0.2,0.1"` as train, val, test fractions; None for the word `otherwise`. ConfigError else."""
    if split == otherwise:
        return None
    rule = f"{otherwise!r} or three fractions train,val,test that add up to 1"
    try:
        parts = [float(part) for part in split.split(",")]
    except ValueError:
        raise ConfigError(f"--split must be {rule}, got {split!r}") from None
    require(
        len(parts) == 3 and min(parts) >= 0 and parts[0] > 0 and abs(sum(parts) - 1) < 1e-6,
        "split",
        rule,
        split,
    )
    return parts[0], parts[1], parts[2]


def parse_size(field: str, size: str) -> int:
    """`"500MB"` as bytes; ConfigError naming `field` where it is no size."""
    rule = f"a number with one of {', '.join(SIZE_UNITS)}"
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", size)
    require(parts is not None and parts[2] in SIZE_UNITS, field, rule, size)
    assert parts is not None
    return int(float(parts[1]) * SIZE_UNITS[parts[2]])


def convert(name: str, value: Any, kind: Any) -> Any:
    """`value` (text of a flag, or a YAML value) as the field's type; ConfigError if it is not one.

    Lists may be written `[1, 2]` in YAML and `1,2` on the command line.
    """
    optional = type(None) in typing.get_args(kind)
    if optional and (value is None or value == "none"):
        return None
    if typing.get_origin(kind) is tuple:
        item_kind = typing.get_args(kind)[0]
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, (list, tuple)):
            return tuple(convert(name, item, item_kind) for item in items if item != "")
    base = base_kind(kind)
    if isinstance(value, base) and not (base is not bool and isinstance(value, bool)):
        return value
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base in (int, float) and isinstance(value, str):
        try:
            return base(value)
        except ValueError:
            pass
    expected = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(base, "a list")
    raise ConfigError(f"--{name.replace('_', '-')} must be {expected}, got {value!r}")


def base_kind(kind: Any) -> Any:
    """The type behind an optional or a generic one: int of `int | None`, tuple of `tuple[str, ...]`."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next(arg for arg in typing.get_args(kind) if arg is not type(None))
    return typing.get_origin(kind) or kind


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """List an archive into a manifest and split it by source."""

    input: str
    """directory, URI or list file (.csv .jsonl .json .txt .parquet) of the videos"""
    output: str
    """manifest to write (.parquet)"""
    split: str = "0.7,0.2,0.1"
    """train,val,test fractions of the videos, by source; 'none' for no split (an archive that
    already names splits keeps them)"""
    seed: int = 0
    """seed of the split"""
    group_pattern: str | None = None
    """regular expression on the file name without extension; its first group names the source,
    which never crosses splits (default: every video is its own source)"""
    limit: int | None = None
    """use only the first N videos"""
    overwrite: bool = False
    """replace the manifest if it is there and differs"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        require(self.output.endswith(".parquet"), "output", "a .parquet file", self.output)
        require(self.limit is None or self.limit > 0, "limit", "at least 1 video", self.limit)
        parse_fractions(self.split)
        if self.group_pattern is not None:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise ConfigError(
                    f"--group-pattern must be a regular expression, got {self.group_pattern!r} ({error})"
                ) from error
            require(groups >= 1, "group_pattern", "a pattern with one (group)", self.group_pattern)


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """What extract and classify share: the run directory and the resources of each operator."""

    output: str
    """directory for the results; resubmitting into it continues"""
    limit: int | None = None
    """use only the first N videos"""
    decode_workers: int | None = None
    """decode workers, one CPU each (default: every CPU); without GPUs they run the CNN too"""
    cnn_workers: int | None = None
    """CNN workers apart from the decode workers (default: one per GPU; without GPUs none)"""
    gpus_per_cnn_worker: float | None = None
    """GPU share of each CNN worker (default: 1 where the cluster has a GPU, else 0)"""
    precision: str = "auto"
    """what the CNN computes in: fp32, bf16, or auto, which takes bf16 where the processor or GPU has it and
    the features stay those of fp32 (mean cosine of at least 0.99 on sample photographs), and else fp32;
    int8, on CPUs, with --weights that jobs/quantize.py wrote, where auto takes it too"""
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
    """delete what is in the output directory and start again"""
    dry_run: bool = False
    """say what would be done and stop"""

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
        require(share is None or share >= 0, "gpus_per_cnn_worker", "at least 0 GPUs", share)

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
class ModelConfig:
    """Sizes of the temporal model; the defaults are the reference system's."""

    hidden_dim: int = 768
    """LSTM width per direction; attention and pooling see twice that"""
    num_lstm_layers: int = 4
    """stacked bidirectional LSTM layers"""
    num_attention_heads: int = 12
    """self-attention heads; must divide 2 × hidden_dim"""
    projection_dim: int | None = None
    """width that features are projected to before the LSTM (default: hidden_dim)"""
    pooling_dim: int | None = None
    """hidden width of attention pooling (default: hidden_dim)"""
    num_frames: int | None = None
    """frames of a video that the model looks at, at most, uniformly chosen among those that the features
    hold (default: all of them)"""
    classifier_dims: tuple[int, ...] = (768, 512, 256)
    """widths of the classifier's hidden layers"""
    classifier_norm: str = "none"
    """none, or layer for a LayerNorm before each activation of the classifier"""
    dropout: float = 0.4
    """dropout probability everywhere in the model"""

    def __post_init__(self) -> None:
        require(self.hidden_dim >= 1, "hidden_dim", "at least 1", self.hidden_dim)
        require(self.num_lstm_layers >= 1, "num_lstm_layers", "at least 1", self.num_lstm_layers)
        heads = self.num_attention_heads
        require(
            heads >= 1 and (2 * self.hidden_dim) % heads == 0,
            "num_attention_heads",
            f"a divisor of 2 × hidden_dim = {2 * self.hidden_dim}",
            heads,
        )
        for field in ("projection_dim", "pooling_dim", "num_frames"):
            value = getattr(self, field)
            require(value is None or value >= 1, field, "at least 1", value)
        require(min(self.classifier_dims, default=1) >= 1, "classifier_dims", "positive", self.classifier_dims)
        require(self.classifier_norm in ("none", "layer"), "classifier_norm", "none or layer", self.classifier_norm)
        require(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)


RECIPES: dict[str, dict[str, Any]] = {
    "robust": {},
    "reference": {
        "initialization": "uniform",
        "warmup_epochs": 0,
        "class_weights": True,
        "selection": "accuracy",
        "multi_scale": (1.0,),
        "averaged_epochs": 0.0,
        "max_restarts": 0,
    },
}
"""Values that a recipe gives to fields which are not given otherwise. `robust` is the defaults; `reference`
is the reference system's training, of whose members some collapse. Its multi-scale averaging belongs to
its feature files and is in them, where they are used."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(ModelConfig):
    """Recipe for one member."""

    recipe: str = "robust"
    """robust; or reference, the reference system's training (of --initialization, --warmup-epochs,
    --class-weights, --selection, --multi-scale, --averaged-epochs and --max-restarts, for those that are
    not given)"""
    epochs: int = 150
    """upper bound on passes over the training split"""
    patience: int = 25
    """epochs without a better validation score before a member stops"""
    batch_size: int = 48
    """videos per optimizer step"""
    lr: float = 1e-3
    """AdamW's peak learning rate"""
    weight_decay: float = 5e-4
    """AdamW's weight decay"""
    warmup_epochs: int = 5
    """epochs over which the learning rate rises to its peak"""
    warm_restart_epochs: int = 20
    """length of the first cosine cycle in epochs; each later one is twice as long"""
    initialization: str = "orthogonal"
    """orthogonal (recurrent weights, with forget gates open) or uniform (torch's own)"""
    focal_gamma: float = 2.0
    """focusing exponent of the focal loss"""
    label_smoothing: float = 0.1
    """mass taken from the true class and spread over all classes"""
    class_weights: bool = False
    """weigh the loss by inverse class frequency as well, although draws are class-balanced already"""
    max_grad_norm: float = 1.0
    """gradient norm above which gradients are scaled down"""
    multi_scale: tuple[float, ...] = (0.85, 1.0, 1.15)
    """frames that a training step samples from a video, as multiples of what the features hold; one is
    drawn for each step"""
    min_kept_frames: float = 0.7
    """least share of the sampled frames that a training step keeps, at random"""
    max_shift: int = 3
    """frames by which a training step may move a video in time"""
    feature_noise: float = 0.02
    """standard deviation of noise on training features, as a share of the features' own"""
    averaged_epochs: float = 2.5
    """epochs that a member's weights are averaged over, exponentially; 0 takes them as they are after a step"""
    selection: str = "macro_f1"
    """validation score that picks the best epoch: macro_f1 or accuracy; then the lowest loss"""
    collapse_epoch: int = 15
    """epoch after which a member that still never draws some class counts as collapsed"""
    max_restarts: int = 2
    """times that a collapsed member starts again from other random numbers"""
    bootstrap: bool = False
    """train each member on its own sample, with replacement, of each class's training videos"""
    seed: int = 0
    """seed of the split, where it is assigned anew, and of the members; member i uses seed + i"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.recipe in RECIPES, "recipe", f"one of {', '.join(RECIPES)}", self.recipe)
        for field in ("epochs", "patience", "batch_size", "warm_restart_epochs", "collapse_epoch"):
            require(getattr(self, field) >= 1, field, "at least 1", getattr(self, field))
        for field in ("lr", "max_grad_norm"):
            require(getattr(self, field) > 0, field, "above 0", getattr(self, field))
        not_negative = ("weight_decay", "focal_gamma", "warmup_epochs", "max_shift", "feature_noise", "averaged_epochs")
        for field in (*not_negative, "max_restarts"):
            require(getattr(self, field) >= 0, field, "at least 0", getattr(self, field))
        require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        kinds = ("orthogonal", "uniform")
        require(self.initialization in kinds, "initialization", "orthogonal or uniform", self.initialization)
        require(self.selection in ("macro_f1", "accuracy"), "selection", "macro_f1 or accuracy", self.selection)
        scales = self.multi_scale
        require(len(scales) > 0 and min(scales) > 0, "multi_scale", "positive factors, at least one", scales)
        require(0 < self.min_kept_frames <= 1, "min_kept_frames", "in (0, 1]", self.min_kept_frames)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """Train the members of a temporal ensemble in parallel."""

    features: tuple[str, ...]
    """features directory, as `jobs/extract.py` writes it; several, comma-separated, of the same videos by
    different backbones, for members that see different features; near duplicates are looked for in the first"""
    output: str
    """ensemble directory; resubmitting into it trains only the members that are missing"""
    members: int = 4
    """models in the ensemble"""
    member_backbones: tuple[str, ...] = ()
    """backbone of each member, comma-separated (default: those of --features in turn)"""
    first_look: tuple[str, ...] = ()
    """features of a few keyframes of the same videos (`jobs/extract.py --sampling keyframes --num-frames 8`), a
    directory for each of --features and in their order, for classify's --progressive: what they suffice for
    is fitted on validation (default: none)"""
    import_reference: str | None = None
    """directory of the reference system's best_ensemble_model_<i>.pt, to calibrate on the features and publish
    instead of training; they decide the sizes and the number of members"""
    reference_classes: tuple[str, ...] = ()
    """class names in the order of these checkpoints' outputs, or a feature file of the reference system
    (.h5) that maps them (default: none; needed with --import-reference)"""
    split: str = "manifest"
    """'manifest' for the splits that the videos were indexed with; or train,val,test fractions, to assign
    them anew by label, sublabel and source, with near duplicates kept together"""
    near_duplicate_cosine: float = 0.95
    """cosine of two videos' mean features, centred by the mean of all videos, from which on they are near
    duplicates; on efficientnet_lite0 0.95 finds trimmed copies, most cropped ones, and few
    unrelated pages of text; higher finds fewer"""
    cpus_per_member: float = 0.5
    """CPU share that Ray reserves for each member"""
    gpus_per_member: float = 0.25
    """GPU share of each member, of its memory too (0 where the cluster has no GPU)"""
    mlflow: str | None = None
    """URI of an MLflow tracking server to log each member to, beside TensorBoard's files"""
    mlflow_experiment: str = "vidclf"
    """MLflow experiment that the members' runs are in"""
    overwrite: bool = False
    """delete what is in the output directory and start again"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        super().__post_init__()
        num_sets = len(self.features)
        require(num_sets >= 1, "features", "at least one directory", self.features)
        require(len(set(self.features)) == num_sets, "features", "each named once", ",".join(self.features))
        rule = f"one directory for each of --features, {num_sets}"
        require(len(self.first_look) in (0, num_sets), "first_look", rule, ",".join(self.first_look))
        if self.import_reference is not None:
            rule = "one directory with --import-reference, whose members are of one backbone"
            require(num_sets == 1, "features", rule, ",".join(self.features))
            rule = "left out with --import-reference, whose members are of one backbone"
            require(not self.member_backbones, "member_backbones", rule, ",".join(self.member_backbones))
        else:
            rule = f"at least {num_sets}, one for each of --features" if num_sets > 1 else "at least 1"
            require(self.members >= num_sets, "members", rule, self.members)
            rule = f"one for each of the {self.members} members"
            given = self.member_backbones
            require(len(given) in (0, self.members), "member_backbones", rule, ",".join(given))
        require(
            self.import_reference is not None or not self.reference_classes,
            "reference_classes",
            "given only with --import-reference",
            ",".join(self.reference_classes),
        )
        parse_fractions(self.split, "manifest")
        cosine = self.near_duplicate_cosine
        require(0 < cosine <= 1, "near_duplicate_cosine", "in (0, 1]", cosine)
        require(self.cpus_per_member > 0, "cpus_per_member", "above 0 CPUs", self.cpus_per_member)
        require(self.gpus_per_member >= 0, "gpus_per_member", "at least 0 GPUs", self.gpus_per_member)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How a space is searched: the `search` part of a tuning YAML."""

    algorithm: str = "tpe"
    """tpe (Optuna's tree-structured Parzen estimator), random, grid (every combination) or pbt
    (population-based training: the worse half of the trials goes on from the better ones' weights)"""
    scheduler: str = "asha"
    """asha stops trials that are behind others at the same epoch; none lets each run to its end"""
    grace_epochs: int = 10
    """epochs that asha lets each trial run"""
    reduction_factor: float = 3.0
    """asha keeps one of this many trials at grace_epochs, and again at each multiple of it by this factor"""
    startup_trials: int = 10
    """trials drawn at random before tpe draws by their scores"""
    perturbation_epochs: int = 5
    """epochs between two exchanges of pbt"""

    def __post_init__(self) -> None:
        names = ("tpe", "random", "grid", "pbt")
        require(self.algorithm in names, "algorithm", f"one of {', '.join(names)}", self.algorithm)
        require(self.scheduler in ("asha", "none"), "scheduler", "asha or none", self.scheduler)
        is_alone = self.algorithm != "pbt" or self.scheduler == "none"
        require(is_alone, "scheduler", "none with algorithm pbt, which decides itself who goes on", self.scheduler)
        for field in ("grace_epochs", "startup_trials", "perturbation_epochs"):
            require(getattr(self, field) >= 1, field, "at least 1", getattr(self, field))
        require(self.reduction_factor > 1, "reduction_factor", "above 1", self.reduction_factor)


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Search for the model and the recipe with the best macro F1 on validation."""

    features: tuple[str, ...]
    """features directory, as `jobs/extract.py` writes it; several, comma-separated, of the same videos, where
    the space chooses between them"""
    space: str
    """YAML of what to search and how, such as tune_configs/default.yaml"""
    output: str
    """directory for best.yaml, trials.parquet and index.html; resubmitting into it continues the search"""
    num_samples: int = 32
    """trials"""
    time_budget: float | None = None
    """seconds after which the search stops its trials and begins no more; submitted again, it goes on for
    as long (default: no limit)"""
    cpus_per_trial: float = 1.0
    """CPU share that Ray reserves for each trial"""
    gpus_per_trial: float = 0.25
    """GPU share of each trial, of its memory too (0 where the cluster has no GPU)"""
    split: str = "manifest"
    """'manifest' for the splits that the videos were indexed with; or train,val,test fractions, to assign
    them anew as `jobs/train.py` does"""
    seed: int = 0
    """seed of the search, of the split where it is assigned anew, and of each trial's training; what tpe, asha
    and pbt do next also depends on the order in which trials end"""
    ensemble_from_trials: int | None = None
    """members of an ensemble to make of the trials in ensemble/ of the output: the best one, and those that
    add most to it on validation, out of the trials on the same features whose models have the best
    one's sizes (default: none)"""
    mlflow: str | None = None
    """URI of an MLflow tracking server to log each trial to, beside TensorBoard's files"""
    mlflow_experiment: str = "vidclf"
    """MLflow experiment that the trials' runs are in"""
    overwrite: bool = False
    """delete what is in the output directory and start again"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        require(len(self.features) >= 1, "features", "at least one directory", self.features)
        require(len(set(self.features)) == len(self.features), "features", "each named once", ",".join(self.features))
        require(self.num_samples >= 1, "num_samples", "at least 1 trial", self.num_samples)
        budget = self.time_budget
        require(budget is None or budget > 0, "time_budget", "above 0 seconds", budget)
        require(self.cpus_per_trial > 0, "cpus_per_trial", "above 0 CPUs", self.cpus_per_trial)
        require(self.gpus_per_trial >= 0, "gpus_per_trial", "at least 0 GPUs", self.gpus_per_trial)
        members = self.ensemble_from_trials
        require(members is None or members >= 1, "ensemble_from_trials", "at least 1 member", members)
        parse_fractions(self.split, "manifest")


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
    abstained on. Where validation is too small to certify it, the job says what it does instead"""
    progressive: bool = False
    """look at a few keyframes of each video first, and at more only where the ensemble is not sure enough to
    keep the error under --abstain-risk; needs an ensemble that was trained with --first-look"""
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


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
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
    """replace the output if it is there"""

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


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Compare predictions with the true labels and write a report: of a classification and a manifest,
    or straight from features and an ensemble."""

    predictions: str | None = None
    """predictions directory, as `jobs/classify.py` writes it (with --manifest)"""
    manifest: str | None = None
    """manifest with the true labels (with --predictions)"""
    features: tuple[str, ...] = ()
    """labelled features to classify, as `jobs/extract.py` writes them: the directory, or an HDF5 file of the
    reference system's format; of an ensemble of several backbones a directory for each, comma-separated
    (with --ensemble, instead of --predictions) (default: none)"""
    ensemble: str | None = None
    """ensemble directory, as `jobs/train.py` writes it (default with --predictions: where it was when they
    were made; the report shows its training curves)"""
    split: str = "test"
    """with --features: train, val, test or all; of an HDF5 file, which split it is"""
    tta: bool = False
    """with --features: test-time augmentation, as in a classification"""
    abstain_risk: float = 0.05
    """with --features: share of wrong labels among the accepted videos that is not to be exceeded, as in a
    classification"""
    output: str
    """directory for index.html, metrics.json, misclassified.csv, abstained.csv and, from features,
    predictions.parquet"""
    max_examples: int = 24
    """misclassified videos, and as many undecided ones, shown with their most attended frames"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        rule = "given, or --features, but not both"
        require((self.predictions is None) == bool(self.features), "predictions", rule, self.predictions)
        is_of_run = self.predictions is not None
        rule = "given with --predictions, and not with --features, which have their labels"
        require((self.manifest is not None) == is_of_run, "manifest", rule, self.manifest)
        require(is_of_run or self.ensemble is not None, "ensemble", "given with --features", self.ensemble)
        splits = (*SPLITS, "all")
        require(self.split in splits, "split", f"one of {', '.join(splits)}", self.split)
        require(not is_of_run or self.split == "test", "split", "left out with --predictions", self.split)
        require(not is_of_run or not self.tta, "tta", "left out with --predictions, which have it or not", self.tta)
        require(0 < self.abstain_risk < 1, "abstain_risk", "in (0, 1)", self.abstain_risk)
        require(self.max_examples >= 0, "max_examples", "at least 0 videos", self.max_examples)


@dataclass(frozen=True, kw_only=True)
class DiffConfig:
    """Compare two classifications of the same videos; exit code 1 where too many changed class."""

    before: str
    """predictions directory, or a predictions.parquet that `jobs/evaluate.py` wrote"""
    after: str
    """the same, of the ensemble or pipeline that is to replace it"""
    output: str
    """directory for index.html, diff.json and flipped.parquet"""
    max_flip_rate: float | None = None
    """share of the videos in both that may change their most probable class; above it the exit code is 1
    (default: report only)"""
    max_listed: int = 500
    """flipped videos listed on the page; flipped.parquet has all"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        rate = self.max_flip_rate
        require(rate is None or 0 <= rate <= 1, "max_flip_rate", "in [0, 1]", rate)
        require(self.max_listed >= 0, "max_listed", "at least 0 videos", self.max_listed)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Classify single videos over HTTP, with a page to drop them on."""

    ensemble: str
    """ensemble directory, as `jobs/train.py` writes it"""
    host: str = "127.0.0.1"
    """address to listen on; other than loopback, whoever reaches it may use the server"""
    port: int = 5000
    """port to listen on; 0 takes a free one"""
    gpus: float | None = None
    """share of a GPU for the model (default: 0.25 where this machine has a GPU, else 0)"""
    max_upload: str = "500MB"
    """size of a video above which it is refused: a number with B, KB, MB, GB, KiB, MiB or GiB"""
    allow_uri: tuple[str, ...] = ()
    """where videos may be fetched from by URI, comma-separated, as https://cdn.example.com, https://*.example.com
    or s3://bucket; http, https, s3 and gs; never a private address (default: nowhere)"""
    fetch_timeout: float = 300.0
    """seconds that fetching a video by URI may take"""
    queue: int = 8
    """videos that may wait while another one is classified; more are turned away"""
    keep_results: float = 3600.0
    """seconds that a result can be asked for; the video itself is deleted with the result"""
    tta: bool = False
    """test-time augmentation, as in a classification"""
    abstain_risk: float = 0.05
    """share of wrong labels among the accepted videos that is not to be exceeded, as in a classification"""
    segments: float | None = None
    """length in seconds of the timeline's segments (default: by the video's duration, 24 of them or fewer)"""
    sharpen_blurry: bool = False
    """classify the sharpened frames of blurry videos as well, and keep what is trusted more"""
    backbone: tuple[str, ...] = ()
    """refuse to run unless the ensemble was fitted on this backbone, or these, comma-separated (default: take
    the ensemble's)"""
    weights: tuple[str, ...] = ()
    """where the backbone's weights are on this machine, for several one each, comma-separated, in the order of
    the ensemble (default: where they were at extraction); other weights are refused"""
    precision: str = "auto"
    """what the CNN computes in: fp32, bf16 or auto, as in a classification"""
    decode_timeout: float = 60.0
    """seconds after which a video is given up, plus one for each second of its duration"""
    decode_memory_gib: float = 2.0
    """memory that decoding one video may take, in GiB"""
    dry_run: bool = False
    """check the ensemble, say what would be served and stop"""

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "port", "between 0 and 65535", self.port)
        require(self.gpus is None or self.gpus >= 0, "gpus", "at least 0 GPUs", self.gpus)
        require(self.max_upload_bytes >= 1, "max_upload", "at least 1 byte", self.max_upload)
        require(self.fetch_timeout > 0, "fetch_timeout", "above 0 seconds", self.fetch_timeout)
        require(self.queue >= 1, "queue", "at least 1 video", self.queue)
        require(self.keep_results > 0, "keep_results", "above 0 seconds", self.keep_results)
        require(0 < self.abstain_risk < 1, "abstain_risk", "in (0, 1)", self.abstain_risk)
        segments = self.segments
        require(segments is None or segments > 0, "segments", "above 0 seconds", segments)
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        require(self.decode_timeout > 0, "decode_timeout", "above 0 seconds", self.decode_timeout)
        require(self.decode_memory_gib > 0, "decode_memory_gib", "above 0 GiB", self.decode_memory_gib)

    @property
    def max_upload_bytes(self) -> int:
        return parse_size("max_upload", self.max_upload)


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Prove from the files alone that every video is accounted for exactly once."""

    run: str
    """output directory of extract or classify"""
    stale: bool = False
    """look also at the videos themselves, whether they have changed since they were done"""
