"""Focal loss against cross-entropy and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vidclf.learning.loss import focal_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
LABELS = torch.tensor([0, 1])


def test_without_focus_and_smoothing_it_is_cross_entropy() -> None:
    expected = torch.nn.functional.cross_entropy(LOGITS, LABELS)
    assert focal_loss(LOGITS, LABELS, gamma=0, smoothing=0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_smoothing_alone_is_cross_entropy_with_label_smoothing() -> None:
    expected = torch.nn.functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert focal_loss(LOGITS, LABELS, gamma=0, smoothing=0.1).item() == pytest.approx(expected.item(), rel=1e-6)


def test_focus_scales_a_sure_answer_down() -> None:
    # Two classes at p = 0.75: (1 - 0.75)^2 * -ln 0.75.
    logits = torch.tensor([[math.log(3.0), 0.0]])
    loss = focal_loss(logits, torch.tensor([0]), gamma=2, smoothing=0)
    assert loss.item() == pytest.approx(0.0625 * -math.log(0.75), rel=1e-5)


def test_smoothing_and_focus_by_hand() -> None:
    # Target 0.95 / 0.05 at p = 0.5 each: (0.5)^2 * ln 2, whatever the target.
    loss = focal_loss(torch.zeros(1, 2), torch.tensor([1]), gamma=2, smoothing=0.1)
    assert loss.item() == pytest.approx(0.25 * math.log(2), rel=1e-5)


def test_class_weights_scale_the_terms_of_their_class() -> None:
    weights = torch.tensor([1.0, 3.0])
    once = focal_loss(torch.zeros(1, 2), torch.tensor([1]), gamma=2, smoothing=0)
    thrice = focal_loss(torch.zeros(1, 2), torch.tensor([1]), gamma=2, smoothing=0, class_weights_C=weights)
    assert thrice.item() == pytest.approx(3 * once.item())
