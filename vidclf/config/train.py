"""Configuration of the temporal model, of one ensemble member and of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidclf.config.fields import ONE_GPU, LeasedConfig, parse_fractions, require


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
class TrainConfig(FitConfig, LeasedConfig):
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
    """delete what this job wrote into the output directory and start again; refused where that holds other files"""
    dry_run: bool = False
    """say what would be done, with --overwrite also what would be deleted, and stop"""

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
        require(0 <= self.gpus_per_member <= 1, "gpus_per_member", ONE_GPU, self.gpus_per_member)
