"""Training one member: the recipe, early stopping, and what came of it. No Ray in here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidclf.config import FitConfig
from vidclf.learning import metrics
from vidclf.learning.dataset import Sequences, TrainingData, class_balanced_order
from vidclf.learning.loss import focal_loss
from vidclf.learning.model import TemporalClassifier


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training split, numbered from 1."""

    number: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float


@dataclass(frozen=True, kw_only=True)
class FittedMember:
    state: dict[str, Tensor]
    """weights of the best epoch, on the CPU"""
    best: Epoch
    history: list[Epoch]


def fit_member(
    data: TrainingData,
    config: FitConfig,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> FittedMember:
    """Train one model from `seed` and return its best epoch: highest macro F1 on validation, then
    lowest validation loss. Stops after `config.patience` epochs without a better one."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = TemporalClassifier(data.feature_dim, len(data.classes), config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    # Cosine with warm restarts (Loshchilov & Hutter 2017, arXiv:1608.03983), stepped once an epoch.
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, config.warm_restart_epochs, T_mult=2)
    history: list[Epoch] = []
    best: Epoch | None = None
    best_state: dict[str, Tensor] = {}
    for number in range(1, config.epochs + 1):
        lr = optimizer.param_groups[0]["lr"]
        train_loss = _train_epoch(model, data.train, config, optimizer, generator, device)
        scheduler.step()
        epoch = _validate(model, data, config, device, number, lr, train_loss)
        history.append(epoch)
        on_epoch(epoch)
        if best is None or (epoch.val_macro_f1, -epoch.val_loss) > (best.val_macro_f1, -best.val_loss):
            best = epoch
            best_state = {key: value.detach().to("cpu", copy=True) for key, value in model.state_dict().items()}
        elif number - best.number >= config.patience:
            break
    assert best is not None  # epochs >= 1
    return FittedMember(state=best_state, best=best, history=copy.copy(history))


def logits_of(model: TemporalClassifier, sequences: Sequences, batch_size: int, device: torch.device) -> Tensor:
    """Logits [B, C] of every sequence, in order, on the CPU."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(sequences.labels), batch_size):
            indices = range(start, min(start + batch_size, len(sequences.labels)))
            features_BTD, lengths_B, _ = sequences.batch(indices)
            logits.append(model(features_BTD.to(device), lengths_B).logits_BC.float().cpu())
    return torch.cat(logits)


def _train_epoch(
    model: TemporalClassifier,
    train: Sequences,
    config: FitConfig,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> float:
    """Mean training loss of one pass over class-balanced draws."""
    model.train()
    order = class_balanced_order(train.labels, generator)
    total = 0.0
    for start in range(0, len(order), config.batch_size):
        indices = order[start : start + config.batch_size]
        features_BTD, lengths_B, labels_B = train.batch(indices)
        logits_BC = model(features_BTD.to(device), lengths_B).logits_BC
        loss = _loss(logits_BC, labels_B.to(device), config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        total += loss.item() * len(indices)
    return total / len(order)


def _validate(
    model: TemporalClassifier,
    data: TrainingData,
    config: FitConfig,
    device: torch.device,
    number: int,
    lr: float,
    train_loss: float,
) -> Epoch:
    logits_BC = logits_of(model, data.val, config.batch_size, device)
    measured = metrics.evaluate(data.val.labels, logits_BC.argmax(dim=1).tolist(), data.classes)
    return Epoch(
        number=number,
        lr=lr,
        train_loss=train_loss,
        val_loss=_loss(logits_BC, torch.tensor(data.val.labels), config).item(),
        val_accuracy=measured.accuracy,
        val_macro_f1=measured.macro_f1,
    )


def _loss(logits_BC: Tensor, labels_B: Tensor, config: FitConfig) -> Tensor:
    # No class weights: the draws are class-balanced already, and weighting as well would count a
    # rare class twice.
    return focal_loss(logits_BC, labels_B, gamma=config.focal_gamma, smoothing=config.label_smoothing)
