"""The learning rate of each epoch."""

from __future__ import annotations

import math

from vidclf.config import FitConfig


def learning_rate(epoch: int, config: FitConfig) -> float:
    """The rate of epoch 1, 2, …: a linear warm-up over `config.warmup_epochs`, then cosine cycles from
    `config.lr` to 0, the first `config.warm_restart_epochs` long and each later one twice as long
    (Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up as in Goyal et al. 2017, arXiv:1706.02677).
    """
    if epoch <= config.warmup_epochs:
        return config.lr * epoch / (config.warmup_epochs + 1)
    since, length = epoch - config.warmup_epochs - 1, config.warm_restart_epochs
    while since >= length:
        since, length = since - length, 2 * length
    return config.lr * (1 + math.cos(math.pi * since / length)) / 2
