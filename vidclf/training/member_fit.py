"""Training of one member (model of an ensemble), with early stopping and new starts after a collapse, without Ray.

A collapse is a training that has settled on a constant answer. An epoch depends only on the weights, the optimizer and
the numbers (seed, attempt, epoch), from which `random_streams` derives the seed of each generator. A member that
continues from its checkpoint therefore takes exactly the steps that it would have taken without the interruption.

Shape suffixes: B videos, L frames drawn for a training step, D features, C classes.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from vidclf.config import FitConfig
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.temporal_model import TemporalClassifier, TemporalModel, initialize
from vidclf.errors import ConfigError
from vidclf.metrics import scores
from vidclf.training import random_streams, sublabels
from vidclf.training.augment import FramePlan, augmented
from vidclf.training.averaged_weights import AveragedWeights
from vidclf.training.dataset import Batches, TrainingData, bootstrap_sample, class_balanced_order
from vidclf.training.gpu_memory import WHOLE, Placement
from vidclf.training.half_precision_std import standard_deviation
from vidclf.training.learning_rate import learning_rate
from vidclf.training.loss import focal_loss, inverse_frequency
from vidclf.training.member_state import Epoch, MemberState, Snapshot
from vidclf.training.random_streams import Stream, stream_seed
from vidclf.training.sublabels import sublabel_loss

LEAST_GUESSED = 2
"""Number of training draws that guessing would recognise, from which classes without recognised draws show a collapse.

With 46 classes of 3 videos, a member that recognises half of its draws misses 6 classes by chance, of whose draws
guessing would recognise 0.4. A member with a constant answer misses 45 classes, where guessing would recognise 2.9.
"""


@dataclass(frozen=True, kw_only=True)
class FittedMember:
    """A trained member (model of the ensemble): its weights after its best epoch, and the figures of all its epochs."""

    state: dict[str, Tensor]
    """weights of the best epoch, on the CPU"""
    best: Epoch
    history: list[Epoch]
    """figures of every epoch, including those of attempts before a new start"""
    num_attempts: int
    """1, and 1 more for each new start from other random weights"""


class MemberFit:
    """The training of one member (model of the ensemble): call `run_epoch` until `is_done` is true, then `result`."""

    def __init__(
        self,
        data: TrainingData,
        config: FitConfig,
        seed: int,
        device: torch.device,
        placement: Placement = WHOLE,
    ) -> None:
        self._classes, self._config, self._seed, self._device = data.classes, config, seed, device
        self._hierarchy = data.hierarchy
        self._feature_dim, self._parts_per_batch = data.feature_dim, placement.parts_per_batch
        train = data.train
        if config.bootstrap:
            train = bootstrap_sample(train, random_streams.generator(seed, Stream.BOOTSTRAP))
        self._train_labels = train.labels
        self._train, self._val = (
            Batches(split, device, is_on_device=placement.features_on_device) for split in (train, data.val)
        )
        # Measured only if noise is used, because the measurement reads all features.
        self._noise = config.feature_noise and config.feature_noise * standard_deviation(train.videos)
        self._weights_C = (
            inverse_frequency(train.labels, len(data.classes)).to(device) if config.class_weights else None
        )
        self._state = MemberState()
        self._begin()

    def _begin(self) -> None:
        """Draw new random weights and make a new optimizer for an attempt: the first, or a new one after a collapse."""
        torch.manual_seed(stream_seed(self._seed, Stream.WEIGHTS, attempt=self._state.attempt))
        self._model = build_model(self._feature_dim, self._hierarchy.num_outputs, self._config)
        if isinstance(self._model, TemporalClassifier) and self._config.initialization == "orthogonal":
            initialize(self._model)
        self._averaged = AveragedWeights(self._model, self._device, self._config.averaged_epochs)
        self._model.to(self._device)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(),
            lr=self._config.lr,
            weight_decay=self._config.weight_decay,
            fused=self._device.type == "cuda",
        )

    @property
    def is_done(self) -> bool:
        """Whether training has ended: the last attempt has run `epochs` epochs, or `patience` epochs without a better
        one."""
        best, number = self._state.attempt_best, self._state.number
        return number >= self._config.epochs or (best is not None and number - best.number >= self._config.patience)

    @property
    def history(self) -> Sequence[Epoch]:
        """The figures of every epoch so far, including those of attempts before a new start."""
        return self._state.history

    @property
    def best(self) -> Epoch:
        """The best epoch so far, whose weights `result` returns. At least one epoch must have run."""
        assert self._state.best is not None, "at least one epoch was run"
        return self._state.best

    def run_epoch(self) -> Epoch:
        """Train for one epoch, then validate; returns the figures of the epoch. If they show a collapse (a constant
        answer), the next epoch starts from new random weights."""
        state, started = self._state, time.perf_counter()
        state.number += 1
        torch.manual_seed(stream_seed(self._seed, Stream.MODEL, attempt=state.attempt, epoch=state.number))
        generator = random_streams.generator(self._seed, Stream.SAMPLER, attempt=state.attempt, epoch=state.number)
        lr = learning_rate(state.number, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        train_loss, confusion = self._train_epoch(generator)
        part_size = -(-self._config.batch_size // self._parts_per_batch)
        logits_BC = predict(self._averaged.model, self._val, part_size, self._device)[:, : len(self._classes)]
        labels_B = self._val.labels_B
        measured = scores.evaluate(labels_B.tolist(), logits_BC.argmax(dim=1).tolist(), self._classes)
        epoch = Epoch(
            attempt=state.attempt,
            number=state.number,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=float(confusion.diagonal().sum() / confusion.sum()),
            train_recall=[
                float(right / drawn) if drawn else None
                for right, drawn in zip(confusion.diagonal(), confusion.sum(dim=1), strict=True)
            ],
            train_draws=[int(drawn) for drawn in confusion.sum(dim=1)],
            val_loss=float(self._loss(logits_BC, labels_B, None)),
            val_accuracy=measured.accuracy,
            val_macro_f1=measured.macro_f1,
            val_weighted_f1=measured.weighted_f1,
            val_f1=[measured.per_class[name].f1 for name in self._classes],
            duration_s=time.perf_counter() - started,
        )
        if not math.isfinite(epoch.train_loss + epoch.val_loss):
            raise ConfigError(
                f"seed {self._seed}, attempt {epoch.attempt}, epoch {epoch.number}: the training loss is "
                f"{epoch.train_loss} and the validation loss {epoch.val_loss}, so the member cannot be trained; "
                "lower --lr or --feature-noise"
            )
        self._record(epoch)
        return epoch

    def _record(self, epoch: Epoch) -> None:
        """Add an epoch to the history and keep its weights if they are the best; after a collapse (a constant answer),
        begin the next attempt from new weights."""
        state, config = self._state, self._config
        state.history.append(epoch)
        if state.attempt_best is None or score(epoch, config) > score(state.attempt_best, config):
            state.attempt_best = epoch
        if state.best is None or score(epoch, config) > score(state.best, config):
            state.best, state.best_state = epoch, _on_cpu(self._averaged.model.state_dict())
        if state.number == config.collapse_epoch and state.attempt <= config.max_restarts and has_collapsed(epoch):
            state.attempt, state.number, state.attempt_best = state.attempt + 1, 0, None
            self._begin()

    def result(self) -> FittedMember:
        """The trained member with the weights of its best epoch. At least one epoch must have run."""
        state = self._state
        return FittedMember(
            state=state.best_state, best=self.best, history=list(state.history), num_attempts=state.attempt
        )

    def snapshot(self) -> Snapshot:
        """Everything that the next epoch depends on, as tensors and plain values by name, for `write_snapshot`.

        Tensors are copied to the CPU, so that the member can continue to train while they are written.
        """
        model, averaged = _on_cpu(self._model.state_dict()), self._averaged.model
        return {
            **self._state.snapshot(),
            "model": model,
            "averaged": model if averaged is self._model else _on_cpu(averaged.state_dict()),
            "num_steps": self._averaged.num_steps,
            "optimizer": _on_cpu(self._optimizer.state_dict()),
        }

    def checkpoint(self) -> bytes:
        """The present state of the training as bytes, from which `restore` continues."""
        stream = io.BytesIO()
        write_snapshot(self.snapshot(), stream)
        return stream.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """Continue the training from the bytes that `checkpoint` returned. They must come from a training with the same
        data and model sizes."""
        snapshot: Snapshot = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        self._state = MemberState.of(snapshot)
        self._begin()
        self._model.load_state_dict(snapshot["model"])
        self._averaged.model.load_state_dict(snapshot["averaged"])
        self._averaged.num_steps = snapshot["num_steps"]
        self._optimizer.load_state_dict(snapshot["optimizer"])
        # The checkpoint's weight decay is another one if population-based training continues with another trial's
        # weights.
        for group in self._optimizer.param_groups:
            group["weight_decay"] = self._config.weight_decay

    def _train_epoch(self, generator: torch.Generator) -> tuple[float, Tensor]:
        """Train on one epoch of random draws in which all classes are equally likely. Returns the mean loss and the
        confusion matrix [C, C] (rows are labels, columns are answers)."""
        config, num_classes = self._config, len(self._classes)
        self._model.train()
        order_B = class_balanced_order(self._train_labels, generator)
        # Summed on the device and read once per epoch: reading a figure at each step would make the GPU wait.
        # `bincount` would also read one.
        total = torch.zeros((), device=self._device)
        confusion = torch.zeros(num_classes * num_classes, device=self._device)
        one = torch.ones((), device=self._device)
        for indices_B in torch.split(order_B, config.batch_size):
            plan = augmented(self._train.lengths_B[indices_B], config, generator)
            self._optimizer.zero_grad(set_to_none=True)
            for part in torch.split(torch.arange(len(indices_B)), -(-len(indices_B) // self._parts_per_batch)):
                part_plan = FramePlan(plan.positions_BL[part], plan.lengths_B[part])
                loss, pairs_B = self._gradients(indices_B[part], part_plan, share=len(part) / len(indices_B))
                total += loss * len(part)
                confusion.index_add_(0, pairs_B, one.expand(len(pairs_B)))
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.max_grad_norm)
            self._optimizer.step()
            self._averaged.update(steps_per_epoch=len(order_B) / config.batch_size)
        return float(total) / len(order_B), confusion.reshape(num_classes, num_classes).cpu()

    def _gradients(self, indices_B: Tensor, plan: FramePlan, share: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of the videos `indices_B`, which are the fraction `share` of a batch, to the model.

        Returns the mean loss of these videos, that of the classes alone, and per video an index [B] into the flattened
        confusion matrix.
        """
        features_BLD, lengths_B = self._train.at(indices_B, plan)
        if self._noise:
            features_BLD = features_BLD + self._noise * torch.randn_like(features_BLD)
        labels_B = self._train.labels_at(indices_B)
        num_classes, hierarchy = len(self._classes), self._hierarchy
        with autocast(self._device):
            outputs = self._model(features_BLD, lengths_B).logits_BC.float()
        logits_BC = outputs[:, :num_classes]
        loss = self._loss(logits_BC, labels_B, self._weights_C)
        total = loss
        if hierarchy.names:
            below = sublabel_loss(outputs[:, num_classes:], self._train.sublabels_at(indices_B), hierarchy)
            total = loss + sublabels.LOSS_WEIGHT * below
        (total * share).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), labels_B * num_classes + logits_BC.detach().argmax(dim=1)

    def _loss(self, logits_BC: Tensor, labels_B: Tensor, weights_C: Tensor | None) -> Tensor:
        """The focal loss with the settings of this training, a scalar tensor."""
        return focal_loss(
            logits_BC,
            labels_B,
            gamma=self._config.focal_gamma,
            smoothing=self._config.label_smoothing,
            class_weights_C=weights_C,
        )


def fit_member(
    data: TrainingData,
    config: FitConfig,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> FittedMember:
    """Train one member (model of the ensemble) with random seed `seed`, until its epochs or its patience are used up.
    `on_epoch` is called after each epoch."""
    fit = MemberFit(data, config, seed, device)
    while not fit.is_done:
        on_epoch(fit.run_epoch())
    return fit.result()


def score(epoch: Epoch, config: FitConfig) -> tuple[float, float]:
    """Sort key by which two epochs are compared; the best epoch has the greatest key.

    The validation score named by `config.selection` comes first, then a low validation loss. With the selection `last`
    it is the later epoch, of the later attempt.
    """
    if config.selection == "last":
        return epoch.attempt, epoch.number
    return (epoch.val_macro_f1 if config.selection == "macro_f1" else epoch.val_accuracy), -epoch.val_loss


def has_collapsed(epoch: Epoch) -> bool:
    """Whether the member has settled on a constant answer, or on answers that leave out some classes.

    A class is missed if it is recognised in less than half as many of its training draws as guessing would recognise.
    The member has collapsed if guessing would recognise at least `LEAST_GUESSED` of the draws of all missed classes
    together. A class of few draws may be missed by chance, so it is no evidence by itself.
    """
    num_classes = len(epoch.train_recall)
    num_missed = sum(
        drawn
        for recall, drawn in zip(epoch.train_recall, epoch.train_draws, strict=True)
        if recall is not None and recall < 0.5 / num_classes
    )
    return num_missed >= LEAST_GUESSED * num_classes


def predict(model: TemporalModel, batches: Batches, batch_size: int, device: torch.device) -> Tensor:
    """Logits of all videos in `batches`, in their order: a float32 tensor [B, C] on the CPU. The logits of sublabels
    follow those of the classes."""
    model.eval()
    logits = []
    with torch.inference_mode(), autocast(device):
        for indices_B in torch.split(torch.arange(len(batches)), batch_size):
            logits.append(model(*batches.whole(indices_B)).logits_BC.float())
    return torch.cat(logits).cpu()


def autocast(device: torch.device) -> torch.autocast:
    """Context in which a model computes: bfloat16 on a GPU, full precision on the CPU.

    bfloat16 halves the memory of activations. `TemporalClassifier` exempts its LSTM from it.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def write_snapshot(snapshot: Snapshot, stream: IO[bytes]) -> None:
    """Write the state of a training, as returned by `MemberFit.snapshot`, in the format that `MemberFit.restore`
    reads."""
    torch.save(snapshot, stream)


def _on_cpu(value: Any) -> Any:
    """A copy of nested dictionaries and lists, with the tensors in them copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
