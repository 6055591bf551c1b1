"""Lines that a member prints while it trains."""

from __future__ import annotations

from dataclasses import replace

from vidclf.config import TrainConfig
from vidclf.training.member_state import Epoch
from vidclf.training.member_worker import epoch_text


def test_the_line_of_an_epoch_counts_the_validation_videos_that_are_right() -> None:
    best = Epoch(
        attempt=1,
        number=4,
        lr=1e-3,
        train_loss=0.346,
        train_accuracy=0.9,
        train_recall=[1.0, 0.8],
        val_loss=0.5,
        val_accuracy=8 / 9,
        val_macro_f1=0.881,
        val_weighted_f1=0.9,
        val_f1=[0.9, 0.862],
        duration_s=0.5,
    )
    config = TrainConfig(features=("f",), output="e", epochs=30)
    assert epoch_text(replace(best, number=5, val_accuracy=7 / 9, val_macro_f1=0.75), best, config, num_val=9) == (
        "epoch 5/30, loss 0.346, validation loss 0.500, accuracy 0.778 (7 of 9 videos), macro F1 0.750 "
        "(best 0.881 at 4), 0.5 s, at most 12 s left"
    )
