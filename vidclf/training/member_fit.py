"""Training one member: the recipe, early stopping, restarts after a collapse. No Ray in here.

An epoch depends on the weights, the optimizer and the numbers (seed, attempt, epoch) alone, so that a
member continued from its checkpoint takes the very steps that it would have taken.

Shape suffixes: B videos, L frames drawn, D features, C classes.
"""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import torch
from torch import Tensor

from vidclf.config import FitConfig
from vidclf.ensemble.temporal_model import TemporalClassifier, initialize
from vidclf.metrics import scores
from vidclf.training.augment import FramePlan, augmented
from vidclf.training.dataset import Batches, TrainingData, bootstrap_sample, class_balanced_order
from vidclf.training.gpu_memory import WHOLE, Placement
from vidclf.training.half_precision_std import standard_deviation
from vidclf.training.learning_rate import learning_rate
from vidclf.training.loss import focal_loss, inverse_frequency

Snapshot = dict[str, Any]
"""A member in training, as `MemberFit.snapshot` gives it."""

SEED_STRIDE = 1_000_003
"""Between the random numbers of two attempts or epochs; a prime above any seed that people choose."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training split."""

    attempt: int
    """1, and one more after each collapse"""
    number: int
    """from 1 in each attempt"""
    lr: float
    train_loss: float
    train_accuracy: float
    """of the augmented draws, while the weights change"""
    train_recall: list[float]
    """per class, likewise"""
    val_loss: float
    """of the averaged weights, as all that follows"""
    val_accuracy: float
    val_macro_f1: float
    val_weighted_f1: float
    val_f1: list[float]
    """per class"""
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class FittedMember:
    state: dict[str, Tensor]
    """weights of the best epoch, on the CPU"""
    best: Epoch
    history: list[Epoch]
    """every epoch of every attempt"""
    num_attempts: int


class MemberFit:
    """A member in training: `run_epoch` until `is_done`, then `result`."""

    def __init__(
        self,
        data: TrainingData,
        config: FitConfig,
        seed: int,
        device: torch.device,
        placement: Placement = WHOLE,
    ) -> None:
        self._classes, self._config, self._seed, self._device = data.classes, config, seed, device
        self._feature_dim, self._parts_per_batch = data.feature_dim, placement.parts_per_batch
        train = data.train
        if config.bootstrap:
            train = bootstrap_sample(train, torch.Generator().manual_seed(seed))
        self._train_labels = train.labels
        self._train, self._val = (
            Batches(split, device, is_on_device=placement.features_on_device) for split in (train, data.val)
        )
        # Measured only where it is used, since it reads all features.
        self._noise = config.feature_noise and config.feature_noise * standard_deviation(train.frames_ND)
        self._weights_C = (
            inverse_frequency(train.labels, len(data.classes)).to(device) if config.class_weights else None
        )
        self._history: list[Epoch] = []
        self._best: Epoch | None = None
        self._best_state: dict[str, Tensor] = {}
        self._begin(attempt=1)

    def _begin(self, attempt: int) -> None:
        """New weights and a new optimizer."""
        self._attempt, self._number = attempt, 0
        self._attempt_best: Epoch | None = None
        torch.manual_seed(self._seed_of(0))
        self._model = TemporalClassifier(self._feature_dim, len(self._classes), self._config)
        if self._config.initialization == "orthogonal":
            initialize(self._model)
        # What is validated and kept; the same model where nothing is averaged. Copied before it is on a GPU, since
        # only moving there lays an LSTM's weights side by side, as cuDNN wants them.
        self._averaged = copy.deepcopy(self._model).to(self._device) if self._config.averaged_epochs else self._model
        self._num_steps = 0
        self._model.to(self._device)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(),
            lr=self._config.lr,
            weight_decay=self._config.weight_decay,
            fused=self._device.type == "cuda",
        )

    def _seed_of(self, epoch: int) -> int:
        return self._seed + SEED_STRIDE * (epoch + SEED_STRIDE * (self._attempt - 1))

    @property
    def is_done(self) -> bool:
        """Whether the epochs or the patience of the last attempt are spent."""
        best = self._attempt_best
        return self._number >= self._config.epochs or (
            best is not None and self._number - best.number >= self._config.patience
        )

    @property
    def history(self) -> Sequence[Epoch]:
        return self._history

    @property
    def best(self) -> Epoch:
        """The epoch whose weights `result` will have; after at least one epoch."""
        assert self._best is not None, "at least one epoch was run"
        return self._best

    def run_epoch(self) -> Epoch:
        """Train and validate once. After an epoch that shows a collapse, the next one begins anew."""
        started = time.perf_counter()
        self._number += 1
        torch.manual_seed(self._seed_of(self._number))
        generator = torch.Generator().manual_seed(self._seed_of(self._number))
        lr = learning_rate(self._number, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        train_loss, confusion = self._train_epoch(generator)
        part_size = -(-self._config.batch_size // self._parts_per_batch)
        logits_BC = predict(self._averaged, self._val, part_size, self._device)
        labels_B = self._val.labels_B
        measured = scores.evaluate(labels_B.tolist(), logits_BC.argmax(dim=1).tolist(), self._classes)
        epoch = Epoch(
            attempt=self._attempt,
            number=self._number,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=float(confusion.diagonal().sum() / confusion.sum()),
            train_recall=(confusion.diagonal() / confusion.sum(dim=1).clamp(min=1)).tolist(),
            val_loss=float(self._loss(logits_BC, labels_B, None)),
            val_accuracy=measured.accuracy,
            val_macro_f1=measured.macro_f1,
            val_weighted_f1=measured.weighted_f1,
            val_f1=[measured.per_class[name].f1 for name in self._classes],
            duration_s=time.perf_counter() - started,
        )
        self._history.append(epoch)
        if self._attempt_best is None or score(epoch, self._config) > score(self._attempt_best, self._config):
            self._attempt_best = epoch
        if self._best is None or score(epoch, self._config) > score(self._best, self._config):
            self._best, self._best_state = epoch, _on_cpu(self._averaged.state_dict())
        if (
            self._number == self._config.collapse_epoch
            and self._attempt <= self._config.max_restarts
            and has_collapsed(epoch)
        ):
            self._begin(self._attempt + 1)
        return epoch

    def result(self) -> FittedMember:
        return FittedMember(
            state=self._best_state, best=self.best, history=list(self._history), num_attempts=self._attempt
        )

    def snapshot(self) -> Snapshot:
        """All that the next epoch depends on, for `write_snapshot`: tensors and plain values alone, copied to the
        CPU, so that the member can train on while they are written."""
        model = _on_cpu(self._model.state_dict())
        return {
            "attempt": self._attempt,
            "number": self._number,
            "history": [asdict(epoch) for epoch in self._history],
            "best": self._best and asdict(self._best),
            "attempt_best": self._attempt_best and asdict(self._attempt_best),
            "best_state": self._best_state,  # replaced by a better one, never written to
            "model": model,
            "averaged": model if self._averaged is self._model else _on_cpu(self._averaged.state_dict()),
            "num_steps": self._num_steps,
            "optimizer": _on_cpu(self._optimizer.state_dict()),
        }

    def checkpoint(self) -> bytes:
        """`snapshot` as bytes, for `restore`."""
        stream = io.BytesIO()
        write_snapshot(self.snapshot(), stream)
        return stream.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """Take up where the member that made `checkpoint` was; it must have had the same data and
        configuration."""
        values: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        self._begin(values["attempt"])
        self._number = values["number"]
        self._history = [Epoch(**epoch) for epoch in values["history"]]
        self._best = Epoch(**values["best"]) if values["best"] else None
        self._attempt_best = Epoch(**values["attempt_best"]) if values["attempt_best"] else None
        self._best_state = values["best_state"]
        self._model.load_state_dict(values["model"])
        self._averaged.load_state_dict(values["averaged"])
        self._num_steps = values["num_steps"]
        self._optimizer.load_state_dict(values["optimizer"])
        # The same, unless population-based training goes on with another's weights.
        for group in self._optimizer.param_groups:
            group["weight_decay"] = self._config.weight_decay

    def _train_epoch(self, generator: torch.Generator) -> tuple[float, Tensor]:
        """Mean training loss of one pass over class-balanced draws, and the confusion matrix [C, C]."""
        config, num_classes = self._config, len(self._classes)
        self._model.train()
        order_B = class_balanced_order(self._train_labels, generator)
        # Kept on the device and read once: a figure read at each step would make a GPU wait for it. `bincount`
        # would read one too.
        total = torch.zeros((), device=self._device)
        confusion = torch.zeros(num_classes * num_classes, device=self._device)
        one = torch.ones((), device=self._device)
        for indices_B in torch.split(order_B, config.batch_size):
            plan = augmented(self._train.lengths_B[indices_B], config, generator)
            self._optimizer.zero_grad(set_to_none=True)
            for part in torch.split(torch.arange(len(indices_B)), -(-len(indices_B) // self._parts_per_batch)):
                of_part = FramePlan(plan.positions_BL[part], plan.lengths_B[part])
                loss, pairs_B = self._gradients(indices_B[part], of_part, share=len(part) / len(indices_B))
                total += loss * len(part)
                confusion.index_add_(0, pairs_B, one.expand(len(pairs_B)))
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.max_grad_norm)
            self._optimizer.step()
            self._average(steps_per_epoch=len(order_B) / config.batch_size)
        return float(total) / len(order_B), confusion.reshape(num_classes, num_classes).cpu()

    def _gradients(self, indices_B: Tensor, plan: FramePlan, share: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of some videos, which are `share` of a batch. Returns their mean loss, and their places
        in a flat confusion matrix."""
        features_BLD, lengths_B = self._train.at(indices_B, plan)
        if self._noise:
            features_BLD = features_BLD + self._noise * torch.randn_like(features_BLD)
        labels_B = self._train.labels_at(indices_B)
        with autocast(self._device):
            logits_BC = self._model(features_BLD, lengths_B).logits_BC
        loss = self._loss(logits_BC.float(), labels_B, self._weights_C)
        (loss * share).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), labels_B * len(self._classes) + logits_BC.detach().argmax(dim=1)

    @torch.no_grad()
    def _average(self, steps_per_epoch: float) -> None:
        """Let the averaged weights follow those that a step has left (Polyak & Juditsky 1992,
        doi:10.1137/0330046)."""
        self._num_steps += 1
        if self._averaged is not self._model:
            share = latest_share(self._num_steps, steps_per_epoch * self._config.averaged_epochs)
            for averaged, latest in zip(self._averaged.parameters(), self._model.parameters(), strict=True):
                averaged.lerp_(latest, share)

    def _loss(self, logits_BC: Tensor, labels_B: Tensor, weights_C: Tensor | None) -> Tensor:
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
    """Train one member from `seed` to its end."""
    fit = MemberFit(data, config, seed, device)
    while not fit.is_done:
        on_epoch(fit.run_epoch())
    return fit.result()


def latest_share(num_steps: int, averaged_steps: float) -> float:
    """What the weights after step `num_steps`, from 1, are of the exponential average over `averaged_steps`: more
    at first, so that little is left of the weights that it began with."""
    return 1 / max(min(averaged_steps, (num_steps + 9) / 9), 1.0)


def score(epoch: Epoch, config: FitConfig) -> tuple[float, float]:
    """What the best epoch has most of: the selected validation score, then a low validation loss."""
    return (epoch.val_macro_f1 if config.selection == "macro_f1" else epoch.val_accuracy), -epoch.val_loss


def has_collapsed(epoch: Epoch) -> bool:
    """Whether some class is hardly ever recognised among the training draws, at less than half of what
    guessing would give: the mark of a member that has settled on a constant answer."""
    return min(epoch.train_recall) < 0.5 / len(epoch.train_recall)


def predict(model: TemporalClassifier, batches: Batches, batch_size: int, device: torch.device) -> Tensor:
    """Logits [B, C] float32 of every sequence, in order, on the CPU."""
    model.eval()
    logits = []
    with torch.inference_mode(), autocast(device):
        for indices_B in torch.split(torch.arange(len(batches)), batch_size):
            logits.append(model(*batches.whole(indices_B)).logits_BC.float())
    return torch.cat(logits).cpu()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, but for the LSTM (`TemporalClassifier`), which halves the other activations; full precision
    on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def write_snapshot(snapshot: Snapshot, stream: IO[bytes]) -> None:
    """Write a snapshot as `MemberFit.restore` reads it."""
    torch.save(snapshot, stream)


def _on_cpu(value: Any) -> Any:
    """A copy of tensors in nested containers, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
