"""Configuration of the job `train`, of the training of one ensemble member, and of the sizes of its temporal model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from vidclf.config.fields import GpuShare, Rule, above, at_least, check_named_once, require, within
from vidclf.config.options import MlflowOptions, Options, OutputOptions, SplitOptions

BILSTM_ONLY = ("num_lstm_layers", "projection_dim", "pooling_dim", "classifier_dims", "classifier_norm")
"""Fields of `ModelConfig` that only the BiLSTM uses."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Options):
    """Kind and sizes of the temporal model (defaults: those of the reference system)

    The temporal model turns the frame features of a video into class probabilities. The reference system is the older
    system whose checkpoints vidclf reads.
    """

    model: Literal["bilstm", "attentive", "words"] = "bilstm"
    """Kind of the temporal model: a BiLSTM, an attentive probe, or similarities to descriptions (words), which are not
    trained."""
    hidden_dim: Annotated[int, at_least(1)] = 768
    """Width of the bidirectional LSTM per direction. The attention, in both kinds of models, and the pooling have twice
    this width."""
    num_lstm_layers: Annotated[int, at_least(1)] = 4
    """Number of stacked bidirectional LSTM layers. Only for --model bilstm."""
    num_attention_heads: int = 12
    """Number of heads of the attention: of the self-attention after the LSTM, or of the attentive probe's query. 2 ×
    hidden_dim must be a multiple of it."""
    projection_dim: Annotated[int, at_least(1)] | None = None
    """Width to which a linear layer brings the features of a frame before the LSTM. Only for --model bilstm. (default:
    hidden_dim)"""
    pooling_dim: Annotated[int, at_least(1)] | None = None
    """Width of the hidden layer in the attention pooling, which averages the frames of a video with learned weights.
    Only for --model bilstm. (default: hidden_dim)"""
    num_frames: Annotated[int, at_least(1)] | None = None
    """Maximum number of frames per video that the model uses, chosen evenly from the frames whose features were
    extracted. (default: all of these frames)"""
    classifier_dims: Annotated[tuple[int, ...], Rule("positive", lambda dims: min(dims, default=1) >= 1)] = (
        768,
        512,
        256,
    )
    """Widths of the hidden layers between pooling and class probabilities, comma-separated. Only for --model
    bilstm."""
    classifier_norm: Literal["none", "layer"] = "none"
    """Normalisation before each activation of the classifier (the layers of --classifier-dims): none, or layer for
    LayerNorm. Only for --model bilstm."""
    dropout: Annotated[float, within("[0, 1)")] = 0.4
    """Probability of dropout in training, in all parts of the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        heads = self.num_attention_heads
        require(
            heads >= 1 and (2 * self.hidden_dim) % heads == 0,
            "num_attention_heads",
            f"a divisor of 2 × hidden_dim = {2 * self.hidden_dim}",
            heads,
        )

    @property
    def sizes(self) -> dict[str, Any]:
        """Kind and sizes that decide what a trained model computes, by field name: without dropout, and without the
        sizes that this kind of model does not have.

        The kind is left out for a BiLSTM, the only kind of earlier versions, so that digests stay as they were.
        """
        left_out = ["dropout", *(BILSTM_ONLY if self.model != "bilstm" else ["model"])]
        if self.model == "words":
            left_out += ["hidden_dim", "num_attention_heads"]
        return {entry.name: getattr(self, entry.name) for entry in fields(ModelConfig) if entry.name not in left_out}

    @property
    def unused(self) -> dict[str, Any]:
        """Fields that do not have their default value although this kind of model does not use them, by name."""
        ignored = () if self.model == "bilstm" else BILSTM_ONLY
        return {name: getattr(self, name) for name in ignored if getattr(self, name) != getattr(ModelConfig, name)}


RECIPES: dict[str, dict[str, Any]] = {
    "robust": {},
    "reference": {
        "initialization": "uniform",
        "warmup_epochs": 0,
        "class_weights": True,
        "selection": "accuracy",
        "multi_scale": (1.0,),
        "min_kept_frames": 1.0,
        "max_shift": 0,
        "feature_noise": 0.0,
        "averaged_epochs": 0.0,
        "max_restarts": 0,
    },
}
"""Values of a recipe (`--recipe`) by field name, for the fields that the user does not set.

`robust` changes nothing, because its values are the defaults of `FitConfig`. `reference` repeats the training of the
reference system (the older system whose checkpoints vidclf reads), in which some members never learn one of the
classes. The reference system averages over several scales when it makes its feature files, so they already contain
that."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(ModelConfig):
    """Training recipe of one member

    Settings of the training of one model of the ensemble.
    """

    model: Literal["bilstm", "attentive"] = "bilstm"
    """Kind of the temporal model. bilstm: a bidirectional LSTM with self-attention, attention pooling and an MLP.
    attentive: an attentive probe, in which one learned query attends to the frames, followed by a linear layer. It has
    an eighth of the weights at the default sizes, trains faster, and does not use the order of the frames."""

    recipe: Literal["robust", "reference"] = "robust"
    """Set of defaults for the training. robust: the defaults shown on this page. reference: those of the reference
    system (the older system whose checkpoints vidclf reads), which are --initialization uniform, --warmup-epochs 0,
    --class-weights, --selection accuracy, no augmentation (--multi-scale 1, --min-kept-frames 1, --max-shift 0 and
    --feature-noise 0), --averaged-epochs 0 and --max-restarts 0; the others are as shown. Options that are given
    override both."""
    epochs: Annotated[int, at_least(1)] = 150
    """Maximum number of epochs, in each of which the training draws as many videos as the training split has."""
    patience: Annotated[int, at_least(1)] = 25
    """Number of epochs in a row without a better validation score after which the training of a member (model)
    stops."""
    batch_size: Annotated[int, at_least(1)] = 48
    """Number of videos per training step (one update of the weights)."""
    lr: Annotated[float, above(0)] = 1e-3
    """Highest learning rate of the optimizer AdamW, reached after --warmup-epochs."""
    weight_decay: Annotated[float, at_least(0)] = 5e-4
    """Weight decay of the optimizer AdamW."""
    warmup_epochs: Annotated[int, at_least(0)] = 5
    """Number of epochs at the start in which the learning rate rises linearly to --lr."""
    warm_restart_epochs: Annotated[int, at_least(1)] = 20
    """Number of epochs, after those of --warmup-epochs, in which the learning rate falls from --lr to 0 along a cosine.
    Then it jumps back to --lr and falls again, each time over twice as many epochs as before."""
    initialization: Literal["orthogonal", "uniform"] = "orthogonal"
    """Weights of the LSTM at the start. orthogonal: orthogonal recurrent weights and open forget gates. uniform:
    PyTorch's default. Only for --model bilstm."""
    focal_gamma: Annotated[float, at_least(0)] = 2.0
    """Exponent of the focal loss: the higher, the less videos count that are already classified well. 0 gives
    cross-entropy."""
    label_smoothing: Annotated[float, within("[0, 1)")] = 0.1
    """Share of the target probability that is taken from the true class and spread evenly over all classes."""
    class_weights: bool = False
    """Give videos of rare classes a higher weight in the loss (inverse class frequency). Independent of this, rare
    classes are always drawn as often as frequent ones."""
    max_grad_norm: Annotated[float, above(0)] = 1.0
    """Maximum norm of the gradient in a training step. A larger gradient is scaled down to this norm."""
    multi_scale: Annotated[
        tuple[float, ...],
        Rule("positive factors, at least one", lambda scales: len(scales) > 0 and min(scales) > 0),
    ] = (0.85, 1.0, 1.15)
    """Factors, comma-separated, one of which each training step draws at random. The step stretches or shortens its
    videos in time: their number of frames is multiplied by the factor, by interpolation."""
    min_kept_frames: Annotated[float, within("(0, 1]")] = 0.7
    """Smallest share of a video's frames that a training step uses. Each step draws a share between this and 1, and
    which frames to leave out, at random."""
    max_shift: Annotated[int, at_least(0)] = 3
    """Maximum number of frames by which a training step shifts a video in time, forwards or backwards, at random."""
    feature_noise: Annotated[float, at_least(0)] = 0.02
    """Strength of the random noise that is added to the features in training, as a fraction of their own standard
    deviation."""
    averaged_epochs: Annotated[float, at_least(0)] = 2.5
    """Number of epochs over which the weights of a member (model) are averaged, with exponentially decaying influence
    of older ones. Validation and the finished member use the averaged weights. 0 uses the weights of the last step."""
    selection: Literal["macro_f1", "accuracy", "last"] = "macro_f1"
    """Validation score by which the best epoch is selected, whose weights the member keeps: F1 averaged over the
    classes, or accuracy. Of epochs with equal scores the one with the lower validation loss is taken. last: the member
    keeps the weights of its last epoch and trains for all --epochs, without early stopping."""
    collapse_epoch: Annotated[int, at_least(1)] = 15
    """Number of the one epoch after which a member (model) is checked for a collapse, again after each restart.
    Collapsed means that it leaves out classes in its answers: in that epoch it recognised them less than half as often
    as guessing would, although they were drawn so often that guessing would have recognised 2 of their videos. A
    collapsed member starts again from new random weights, at most --max-restarts times."""
    max_restarts: Annotated[int, at_least(0)] = 2
    """How often a member that collapsed (see --collapse-epoch) may start again from new random weights. After that it
    trains on without checks. 0 disables restarts."""
    bootstrap: bool = False
    """Train each member on a random sample of its own: as many videos of each class as there are, drawn with
    replacement."""
    seed: int = 0
    """Random seed for new splits (if --split gives fractions) and for the training; member i (counted from 0) uses seed
    + i."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig, SplitOptions, MlflowOptions, OutputOptions):
    """Train an ensemble: several models (members) that classify videos from their frame features, trained in
    parallel."""

    features: tuple[str, ...]
    """Directory of features, as jobs/extract.py writes it. Several directories, comma-separated, must hold features of
    the same videos from different backbones (CNNs); each member (model) then uses one of them. Near duplicates are
    searched with the features of the first."""
    output: str
    """Directory for the ensemble. A job that is submitted again with the same directory trains only the members
    (models) that are missing there."""
    members: Annotated[int, at_least(1)] = 4
    """Number of members: the models in the ensemble, whose predictions are averaged."""
    member_backbones: tuple[str, ...] = ()
    """Backbone (CNN) whose features each member is trained on, one name per member, comma-separated. (default: the
    backbones of --features in turn)"""
    first_look: tuple[str, ...] = ()
    """Directory with features of a few keyframes of the same videos, made with jobs/extract.py --sampling keyframes
    --num-frames 8; needed for jobs/classify.py --progressive. Give one directory per directory of --features, in the
    same order. The calibration of predictions from these few frames is fitted on the held-out videos. (default:
    none)"""
    import_reference: str | None = None
    """Directory with checkpoints best_ensemble_model_<i>.pt of the reference system (the older system whose checkpoints
    vidclf reads). They become the members of the ensemble without training; only their probabilities are calibrated, on
    --features. Model sizes and number of members are those of the checkpoints. (default: train new members)"""
    reference_classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs of the checkpoints of --import-reference, comma-separated, or a
    feature file (.h5) of the reference system that contains these names. Required with --import-reference. (default:
    none)"""
    folds: Annotated[int, Rule("0 or at least 3", lambda folds: folds == 0 or folds >= 3)] = 0
    """Cross-validate with this number of folds, after the ensemble itself: the sources of all videos are divided into
    folds; for each fold, --members new members are trained on the other folds (one of which selects their best epochs)
    and classify its videos. So every source is tested once, however large it is. The ensemble stays the same. Each
    class must have at least as many sources. Takes about as many times as long as the training of the ensemble. 0: no
    cross-validation."""
    linear_member: Literal["auto", "none"] = "auto"
    """Linear member: a logistic regression on mean and spread of each video's features, fitted in seconds. It votes
    beside the other members, with a weight that is fitted on the held-out videos and is 0 where it does not help.
    auto: fit one, except with --recipe reference and with --import-reference. none: fit none."""
    calibration: Literal["auto", "validation", "cross"] = "auto"
    """Videos that the calibration is fitted to: probabilities, trust scores, their thresholds, prediction sets and the
    weight of the linear member. validation: those of the validation split, which also selects the members' best epochs.
    cross: all videos of the training and the validation split, which make one pool. It is divided into as many folds by
    source as there are members, at most 5; each member leaves out a fold, and every video is judged by the members that
    left it out. Members then train without early stopping, with --selection last, until the learning rate first reaches
    0 (--warmup-epochs and --warm-restart-epochs, at most --epochs). Needs at least 2 members. auto: cross for an
    archive of fewer than 500 sources, at least 10 of each class, whose validation split would be small; otherwise, and
    with --recipe reference, --import-reference or one member, validation. An ensemble that --output already holds keeps
    its calibration."""
    sublabels: Literal["auto", "none"] = "auto"
    """Sublabels: finer classes, from the column of that name in the manifest. auto: predict them below each class that
    has at least 2 sublabels with at least 2 sources each in the train split, except with --recipe reference and with
    --import-reference. none: predict none."""
    near_duplicate_cosine: Annotated[float, within("(0, 1]")] = 0.95
    """Similarity from which two videos count as near duplicates (almost the same content): the cosine between their
    mean features, after the mean over all videos is subtracted from both. A higher value finds fewer. With
    efficientnet_lite0, 0.95 finds trimmed copies, more than half of cropped copies and hardly any of low quality, and,
    wrongly, a few videos of unrelated pages of text."""
    cpus_per_member: Annotated[float, above(0, "CPUs")] = 0.5
    """Number of CPUs that Ray reserves per member (model); a fraction such as 0.5 lets members share a CPU."""
    gpus_per_member: GpuShare = 0.25
    """Share of one GPU, and of its memory, that each member (model) uses; 0.25 trains four members on a GPU. On a
    cluster without GPUs, 0 is used instead."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named_once("features", self.features, "directory")
        num_sets = len(self.features)
        rule = f"one directory for each of --features, {num_sets}"
        require(len(self.first_look) in (0, num_sets), "first_look", rule, ",".join(self.first_look))
        if self.import_reference is not None:
            rule = "one directory with --import-reference, whose members are of one backbone"
            require(num_sets == 1, "features", rule, ",".join(self.features))
            require(self.folds == 0, "folds", "0 with --import-reference, which trains no members", self.folds)
            rule = "left out with --import-reference, whose members are of one backbone"
            require(not self.member_backbones, "member_backbones", rule, ",".join(self.member_backbones))
            rule = "bilstm with --import-reference, whose members are BiLSTMs"
            require(self.model == "bilstm", "model", rule, self.model)
        else:
            rule = f"at least {num_sets}, one for each of --features"
            require(self.members >= num_sets, "members", rule, self.members)
            rule = f"one for each of the {self.members} members"
            backbones = self.member_backbones
            require(len(backbones) in (0, self.members), "member_backbones", rule, ",".join(backbones))
        if self.calibration == "cross":
            is_trained_here = self.import_reference is None and self.recipe != "reference"
            rule = "validation with --recipe reference and with --import-reference, whose members stay as they are"
            require(is_trained_here, "calibration", rule, self.calibration)
            rule = "at least 2 with --calibration cross, so that each video is left out by one and used by another"
            require(self.members >= 2, "members", rule, self.members)
        require(
            self.import_reference is not None or not self.reference_classes,
            "reference_classes",
            "given only with --import-reference",
            ",".join(self.reference_classes),
        )

    @property
    def fits_linear_member(self) -> bool:
        """Whether the ensemble gets a linear member."""
        return self.linear_member == "auto" and not self._is_of_reference

    @property
    def fits_sublabels(self) -> bool:
        """Whether the ensemble may predict sublabels."""
        return self.sublabels == "auto" and not self._is_of_reference

    @property
    def may_be_crossed(self) -> bool:
        """Whether `--calibration auto` may choose a cross calibration."""
        return self.calibration == "auto" and self.members >= 2 and not self._is_of_reference

    @property
    def _is_of_reference(self) -> bool:
        """Whether the members are those of the reference system, or trained like them."""
        return self.recipe == "reference" or self.import_reference is not None
