"""Focal loss with label smoothing and class weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def focal_loss(
    logits_BC: Tensor, labels_B: Tensor, *, gamma: float, smoothing: float, class_weights_C: Tensor | None = None
) -> Tensor:
    """Mean focal loss over the batch (Lin et al. 2017, arXiv:1708.02002), a scalar tensor.

    The target distribution is the one-hot label, with `smoothing` of its mass spread over all classes. Each class's
    cross-entropy term is scaled by (1 - p)^gamma, where p is the class's predicted probability, and by its class
    weight. With gamma 0, smoothing 0 and no weights this is the mean cross-entropy.
    """
    num_classes = logits_BC.shape[1]
    log_p_BC = logits_BC.log_softmax(dim=1)
    target_BC = torch.full_like(log_p_BC, smoothing / num_classes)
    target_BC.scatter_(1, labels_B[:, None], 1 - smoothing + smoothing / num_classes)
    others_BC = 1 - log_p_BC.exp()
    if 0 < gamma < 1:
        # The power has an infinite slope at 0, which is NaN after a multiplication by 0. Where p rounds to 1, 1 - p is
        # taken as half a unit of rounding, as a constant.
        others_BC = others_BC.clamp(min=torch.finfo(others_BC.dtype).eps / 4)
    terms_BC = -target_BC * others_BC.pow(gamma) * log_p_BC
    if class_weights_C is not None:
        terms_BC = terms_BC * class_weights_C
    return terms_BC.sum(dim=1).mean()


def inverse_frequency(labels: Sequence[int], num_classes: int) -> Tensor:
    """Class weights, a float32 tensor [C]: number of videos / (number of classes × videos of the class).

    They are 1 if all classes are equally frequent (King & Zeng 2001; scikit-learn calls them "balanced"). Every class
    must occur in `labels`.
    """
    count = Counter(labels)
    return torch.tensor([len(labels) / (num_classes * count[index]) for index in range(num_classes)])
