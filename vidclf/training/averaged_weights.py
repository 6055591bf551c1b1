"""Exponential average of a model's weights over the steps of its training."""

from __future__ import annotations

import copy

import torch

from vidclf.ensemble.temporal_model import TemporalModel


class AveragedWeights:
    """A copy of a model, whose weights are the exponential average of the model's weights over its training steps.

    See Polyak & Juditsky 1992, doi:10.1137/0330046. `torch.optim.swa_utils.AveragedModel` is not used: it copies the
    model after the first step, whereas this average begins with the initial weights.
    """

    def __init__(self, model: TemporalModel, device: torch.device, averaged_epochs: float) -> None:
        self._model, self._averaged_epochs = model, averaged_epochs
        # Copied before the model moves to a GPU. Only that move lays an LSTM's weights side by side, as cuDNN needs.
        self.model = copy.deepcopy(model).to(device) if averaged_epochs else model
        """the averaged model, to validate and to publish; the trained model itself if `averaged_epochs` is 0"""
        self.num_steps = 0

    @torch.no_grad()
    def update(self, steps_per_epoch: float) -> None:
        """Add the model's present weights to the average. Call it after each optimizer step."""
        self.num_steps += 1
        if self.model is not self._model:
            share = latest_share(self.num_steps, steps_per_epoch * self._averaged_epochs)
            for averaged, latest in zip(self.model.parameters(), self._model.parameters(), strict=True):
                averaged.lerp_(latest, share)


def latest_share(num_steps: int, averaged_steps: float) -> float:
    """The factor, from 0 to 1, by which the newest weights enter the exponential average at step `num_steps` (from 1).

    It is 1 / `averaged_steps` in the long run, and greater in the first steps, so that little of the initial weights
    remains in the average.
    """
    return 1 / max(min(averaged_steps, (num_steps + 9) / 9), 1.0)
