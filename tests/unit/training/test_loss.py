"""Focal loss, compared with cross-entropy and with values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vidclf.training.loss import focal_loss, inverse_frequency

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


def test_focus_smoothing_and_class_weights_by_hand() -> None:
    # p = 1/2, 1/4, 1/4; target 0.8, 0.1, 0.1 of label 0 and 0.1, 0.1, 0.8 of label 2; weights 1, 2, 4.
    # Term of class 0 per unit of target: (1/2)^2 ln 2 = 0.1732868; of classes 1 and 2: (3/4)^2 ln 4 = 0.7797905.
    # Label 0: 0.8 × 0.1732868 + (2 × 0.1 + 4 × 0.1) × 0.7797905 = 0.1386294 + 0.4678743 = 0.6065037.
    # Label 2: 0.1 × 0.1732868 + (2 × 0.1 + 4 × 0.8) × 0.7797905 = 0.0173287 + 2.6512877 = 2.6686164.
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0]]).repeat(2, 1)
    weights = torch.tensor([1.0, 2.0, 4.0])
    loss = focal_loss(logits, torch.tensor([0, 2]), gamma=2, smoothing=0.3, class_weights_C=weights)
    assert loss.item() == pytest.approx((0.6065037 + 2.6686164) / 2, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 0.99, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_probability_that_rounds_to_one_has_finite_gradients(gamma: float, smoothing: float) -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    assert logits.softmax(dim=1).max(dim=1).values.tolist() == [1.0, 1.0]
    loss = focal_loss(logits, torch.tensor([0, 1]), gamma=gamma, smoothing=smoothing)
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 0.99, 1.0, 2.0])
def test_elsewhere_the_loss_and_its_gradients_are_those_of_the_formula(gamma: float) -> None:
    values = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(64) % 5
    gradients, losses = [], []
    for is_formula in (False, True):
        logits = values.clone().requires_grad_()
        if is_formula:
            log_p = logits.log_softmax(dim=1)
            target = torch.full_like(log_p, 0.1 / 5).scatter_(1, labels[:, None], 1 - 0.1 + 0.1 / 5)
            loss = (-target * (1 - log_p.exp()).pow(gamma) * log_p).sum(dim=1).mean()
        else:
            loss = focal_loss(logits, labels, gamma=gamma, smoothing=0.1)
        loss.backward()
        losses.append(loss)
        gradients.append(logits.grad)
    assert torch.equal(losses[0], losses[1])
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.equal(gradients[0], gradients[1])


def test_inverse_frequency_by_hand() -> None:
    # Ten videos of three classes: 10 / (3 × 5), 10 / (3 × 4), 10 / (3 × 1).
    assert inverse_frequency([0] * 5 + [1] * 4 + [2], 3).tolist() == pytest.approx([2 / 3, 5 / 6, 10 / 3])
    assert inverse_frequency([0, 1, 1, 0], 2).tolist() == [1.0, 1.0]
