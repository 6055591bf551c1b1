"""Configuration of the temporal model, of the training of one ensemble member, and of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vidclf.config.fields import GpuShare, Rule, above, at_least, check_named_once, require, within
from vidclf.config.options import MlflowOptions, Options, OutputOptions, SplitOptions


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Options):
    """Sizes of the temporal model (defaults: those of the reference system)"""

    hidden_dim: Annotated[int, at_least(1)] = 768
    """Width of the LSTM per direction. Attention and pooling work on twice this width."""
    num_lstm_layers: Annotated[int, at_least(1)] = 4
    """Number of stacked bidirectional LSTM layers."""
    num_attention_heads: int = 12
    """Number of self-attention heads. It must divide 2 × hidden_dim."""
    projection_dim: Annotated[int, at_least(1)] | None = None
    """Width to which frame features are projected before the LSTM. (default: hidden_dim)"""
    pooling_dim: Annotated[int, at_least(1)] | None = None
    """Hidden width of the attention pooling. (default: hidden_dim)"""
    num_frames: Annotated[int, at_least(1)] | None = None
    """Maximum number of frames per video that the model uses, chosen uniformly from the extracted frames. (default:
    all extracted frames)"""
    classifier_dims: Annotated[tuple[int, ...], Rule("positive", lambda dims: min(dims, default=1) >= 1)] = (
        768,
        512,
        256,
    )
    """Widths of the hidden layers of the classifier, comma-separated."""
    classifier_norm: Literal["none", "layer"] = "none"
    """Normalisation before each activation of the classifier: none, or layer for LayerNorm."""
    dropout: Annotated[float, within("[0, 1)")] = 0.4
    """Dropout probability in all parts of the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        heads = self.num_attention_heads
        require(
            heads >= 1 and (2 * self.hidden_dim) % heads == 0,
            "num_attention_heads",
            f"a divisor of 2 × hidden_dim = {2 * self.hidden_dim}",
            heads,
        )


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
"""Values of a recipe for the fields that the user does not set. `robust` equals the defaults. `reference` is the
training of the reference system, in which some members collapse. Multi-scale averaging of the reference system
happens when its feature files are made, so it is already contained in them."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(ModelConfig):
    """Training recipe of one member"""

    recipe: Literal["robust", "reference"] = "robust"
    """Set of training defaults. robust: the defaults shown here. reference: the training of the reference system, which
    changes --initialization, --warmup-epochs, --class-weights, --selection, --multi-scale, --averaged-epochs and
    --max-restarts unless they are given."""
    epochs: Annotated[int, at_least(1)] = 150
    """Maximum number of passes over the training split."""
    patience: Annotated[int, at_least(1)] = 25
    """Number of epochs without a better validation score after which the training of a member stops."""
    batch_size: Annotated[int, at_least(1)] = 48
    """Number of videos per optimizer step."""
    lr: Annotated[float, above(0)] = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, at_least(0)] = 5e-4
    """Weight decay of AdamW."""
    warmup_epochs: Annotated[int, at_least(0)] = 5
    """Number of epochs in which the learning rate rises linearly to its peak."""
    warm_restart_epochs: Annotated[int, at_least(1)] = 20
    """Length in epochs of the first cosine cycle of the learning rate. Each later cycle is twice as long."""
    initialization: Literal["orthogonal", "uniform"] = "orthogonal"
    """Initial LSTM weights. orthogonal: orthogonal recurrent weights and open forget gates. uniform: PyTorch's
    default."""
    focal_gamma: Annotated[float, at_least(0)] = 2.0
    """Focusing exponent of the focal loss. 0 gives cross-entropy."""
    label_smoothing: Annotated[float, within("[0, 1)")] = 0.1
    """Probability mass that is moved from the true class and spread over all classes."""
    class_weights: bool = False
    """Weight the loss by inverse class frequency, in addition to class-balanced sampling."""
    max_grad_norm: Annotated[float, above(0)] = 1.0
    """Maximum gradient norm. Larger gradients are scaled down to it."""
    multi_scale: Annotated[
        tuple[float, ...],
        Rule("positive factors, at least one", lambda scales: len(scales) > 0 and min(scales) > 0),
    ] = (0.85, 1.0, 1.15)
    """Multi-scale sampling in time: the number of frames per training step as a multiple of the extracted frames.
    Each step draws one of these factors."""
    min_kept_frames: Annotated[float, within("(0, 1]")] = 0.7
    """Smallest share of the frames of a video that a training step keeps. Each step draws the share, and the frames, at
    random."""
    max_shift: Annotated[int, at_least(0)] = 3
    """Maximum number of frames by which a training step shifts a video in time."""
    feature_noise: Annotated[float, at_least(0)] = 0.02
    """Standard deviation of the noise added to training features, as a fraction of the features' own standard
    deviation."""
    averaged_epochs: Annotated[float, at_least(0)] = 2.5
    """Number of epochs over which the weights of a member are averaged exponentially. 0 uses the weights after the last
    step."""
    selection: Literal["macro_f1", "accuracy"] = "macro_f1"
    """Validation score that selects the best epoch. Ties are decided by the lower loss."""
    collapse_epoch: Annotated[int, at_least(1)] = 15
    """Epoch after which a member counts as collapsed if it still hardly ever recognises some class in training, less
    than half as often as guessing would."""
    max_restarts: Annotated[int, at_least(0)] = 2
    """Maximum number of restarts of a collapsed member, each with new random numbers."""
    bootstrap: bool = False
    """Train each member on its own bootstrap sample: training videos drawn with replacement, class by class."""
    seed: int = 0
    """Random seed of the split, if a new one is made, and of the members: member i uses seed + i."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig, SplitOptions, MlflowOptions, OutputOptions):
    """Train the members of a temporal ensemble in parallel."""

    features: tuple[str, ...]
    """Features directory, as jobs/extract.py writes it. Several directories, comma-separated, must hold features of the
    same videos from different backbones; the members then differ in their features. Near duplicates are searched in
    the first directory."""
    output: str
    """Ensemble directory. A job that is submitted again with the same directory trains only the missing members."""
    members: Annotated[int, at_least(1)] = 4
    """Number of models in the ensemble."""
    member_backbones: tuple[str, ...] = ()
    """Backbone of each member, comma-separated. (default: the backbones of --features in turn)"""
    first_look: tuple[str, ...] = ()
    """Features of a few keyframes of the same videos, for classify --progressive, made with jobs/extract.py
    --sampling keyframes --num-frames 8. Give one directory per directory of --features, in the same order.
    Validation videos decide when these frames are enough. (default: none)"""
    import_reference: str | None = None
    """Directory with checkpoints best_ensemble_model_<i>.pt of the reference system. They are calibrated on the
    features and published as an ensemble, without training; sizes and number of members are those of the checkpoints.
    (default: train new members)"""
    reference_classes: tuple[str, ...] = ()
    """Class names in the order of the outputs of the imported checkpoints, comma-separated, or a feature file (.h5) of
    the reference system that contains them. Required with --import-reference. (default: none)"""
    near_duplicate_cosine: Annotated[float, within("(0, 1]")] = 0.95
    """Smallest cosine between the mean features of two videos, centred by the mean of all videos, at which they count
    as near duplicates. A higher value finds fewer. With efficientnet_lite0, 0.95 finds trimmed copies, most cropped
    copies, and a few unrelated pages of text."""
    cpus_per_member: Annotated[float, above(0, "CPUs")] = 0.5
    """Number of CPUs, or share of one, that Ray reserves per member."""
    gpus_per_member: GpuShare = 0.25
    """Share of a GPU, and of its memory, that each member uses. A cluster without GPUs uses 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("features", self.features, "directory")
        num_sets = len(self.features)
        rule = f"one directory for each of --features, {num_sets}"
        require(len(self.first_look) in (0, num_sets), "first_look", rule, ",".join(self.first_look))
        if self.import_reference is not None:
            rule = "one directory with --import-reference, whose members are of one backbone"
            require(num_sets == 1, "features", rule, ",".join(self.features))
            rule = "left out with --import-reference, whose members are of one backbone"
            require(not self.member_backbones, "member_backbones", rule, ",".join(self.member_backbones))
        else:
            rule = f"at least {num_sets}, one for each of --features"
            require(self.members >= num_sets, "members", rule, self.members)
            rule = f"one for each of the {self.members} members"
            backbones = self.member_backbones
            require(len(backbones) in (0, self.members), "member_backbones", rule, ",".join(backbones))
        require(
            self.import_reference is not None or not self.reference_classes,
            "reference_classes",
            "given only with --import-reference",
            ",".join(self.reference_classes),
        )
