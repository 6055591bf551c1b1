"""Frame plans of the augmentation, with literal positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidclf.config import RECIPES, FitConfig
from vidclf.training.augment import FramePlan, augmented, every_frame, resampled, shifted, thinned


def lengths(*values: int) -> Tensor:
    return torch.tensor(values)


def test_every_frame_once_and_padding_stays_in_the_video() -> None:
    plan = every_frame(lengths(3, 1))
    assert plan.positions_BL.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert plan.lengths_B.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("length", "scale", "positions"),
    [
        (4, 1.0, [0.0, 1.0, 2.0, 3.0]),
        (4, 0.5, [0.5, 2.5]),  # the midpoints of halves
        (2, 2.0, [0.0, 0.25, 0.75, 1.0]),  # the outer positions would be at -0.25 and 1.25
        (3, 0.1, [1.0]),  # at least one frame: the middle one
    ],
)
def test_resampling_takes_the_midpoints_of_equal_spans(length: int, scale: float, positions: list[float]) -> None:
    plan = resampled(lengths(length), scale)
    assert plan.positions_BL[0].tolist() == pytest.approx(positions)
    assert plan.lengths_B.tolist() == [len(positions)]


def test_resampling_keeps_each_length_of_a_ragged_batch() -> None:
    plan = resampled(lengths(73, 20), 1.15)
    assert plan.lengths_B.tolist() == [84, 23]
    assert plan.positions_BL.shape == (2, 84)
    assert float(plan.positions_BL[1].max()) == 19.0


def test_shifting_repeats_the_outer_frame() -> None:
    plan = shifted(every_frame(lengths(4, 4)), torch.tensor([2, -1]), lengths(4, 4))
    assert plan.positions_BL.tolist() == [[2, 3, 3, 3], [0, 0, 1, 2]]


def test_thinning_keeps_a_share_in_order_and_never_takes_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        plan = thinned(every_frame(lengths(10, 4, 1)), 0.7, generator)
        assert plan.lengths_B.tolist() == [7, 3, 1]
        for row, (num_kept, length) in enumerate(zip(plan.lengths_B.tolist(), (10, 4, 1), strict=True)):
            real = plan.positions_BL[row, :num_kept].tolist()
            assert real == sorted(set(real))
            assert max(real) < length


def test_thinning_by_nothing_changes_nothing() -> None:
    plan = every_frame(lengths(5, 2))
    unchanged = thinned(plan, 1.0, torch.Generator().manual_seed(0))
    assert unchanged.lengths_B.tolist() == [5, 2]
    assert unchanged.positions_BL.tolist() == plan.positions_BL.tolist()


def test_an_augmented_batch_of_one_length_keeps_one_length() -> None:
    drawn_lengths = set()
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        plan: FramePlan = augmented(lengths(73, 73, 73), FitConfig(), generator)
        assert len(set(plan.lengths_B.tolist())) == 1
        assert float(plan.positions_BL.min()) >= 0
        assert float(plan.positions_BL.max()) <= 72
        drawn_lengths.add(int(plan.lengths_B[0]))
    # From 0.7 of 0.85 × 73 = 62 frames to all of 1.15 × 73 = 84.
    assert min(drawn_lengths) >= 43
    assert max(drawn_lengths) <= 84
    assert len(drawn_lengths) > 10


def test_without_augmentation_a_step_sees_every_frame() -> None:
    config = FitConfig(multi_scale=(1.0,), min_kept_frames=1.0, max_shift=0)
    plan = augmented(lengths(4, 2), config, torch.Generator().manual_seed(0))
    assert plan.positions_BL.tolist() == [[0, 1, 2, 3], [0, 1, 1, 1]]


def test_the_reference_recipe_reads_every_frame_as_it_is() -> None:
    config = FitConfig(**RECIPES["reference"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        plan = augmented(torch.tensor([3, 2]), config, generator)
        assert (plan.positions_BL.tolist(), plan.lengths_B.tolist()) == ([[0, 1, 2], [0, 1, 1]], [3, 2])
    assert config.feature_noise == 0
    # The robust recipe has all three kinds of augmentation.
    assert (FitConfig().min_kept_frames, FitConfig().max_shift, FitConfig().feature_noise) == (0.7, 3, 0.02)
