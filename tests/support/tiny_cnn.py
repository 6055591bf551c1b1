"""A tiny CNN in the place of a backbone, for tests of what surrounds the CNN: conversion, cache, choice of precision.

Its 2 convolutions take a fraction of a millisecond per frame, EfficientNet-Lite0 takes 20 ms.
"""

from __future__ import annotations

from typing import cast

import pytest
from torch import Tensor, nn

from vidclf.backbones import cnn
from vidclf.backbones.backbone_model import BackboneModel

TINY = ("efficientnet_lite0", "random")
"""Backbone and weights of the tiny CNN: the name decides the preprocessing, and `random` means seeded weights."""


class TinyTrunk(nn.Module):
    """Images [T, 3, H, W] in, 32 pooled features per image out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=8, stride=8), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, kernel_size=4)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x).relu().mean((2, 3)))


def use_tiny_cnn(monkeypatch: pytest.MonkeyPatch, *, full_width: bool = False) -> None:
    """Let every backbone of this process be a `TinyTrunk` until the end of the test.

    With `full_width` it has as many features as the backbone, for tests of the schemas around it.
    """

    def architecture(model: BackboneModel) -> nn.Module:
        return nn.Sequential(TinyTrunk(), nn.Linear(32, model.feature_dim)) if full_width else TinyTrunk()

    monkeypatch.setattr(cnn, "_architecture", architecture)
