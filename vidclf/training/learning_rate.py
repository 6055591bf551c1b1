"""The learning rate in each epoch: a linear warm-up, then cosine cycles with warm restarts."""

from __future__ import annotations

import math

from vidclf.config import FitConfig


def learning_rate(epoch: int, config: FitConfig) -> float:
    """The learning rate in an epoch, where `epoch` counts from 1.

    It rises linearly over `config.warmup_epochs` (Goyal et al. 2017, arXiv:1706.02677). Then it falls from `config.lr`
    to 0 along a cosine, again and again (Loshchilov & Hutter 2017, arXiv:1608.03983). The first such cycle takes
    `config.warm_restart_epochs`, and each later one twice as many epochs as the one before.
    """
    if epoch <= config.warmup_epochs:
        return config.lr * epoch / (config.warmup_epochs + 1)
    since, length = epoch - config.warmup_epochs - 1, config.warm_restart_epochs
    while since >= length:
        since, length = since - length, 2 * length
    return config.lr * (1 + math.cos(math.pi * since / length)) / 2
