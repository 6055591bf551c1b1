"""The prior of the temperatures of an ensemble, from the settings with which its members were trained."""

from __future__ import annotations

import pytest

from vidclf.config import FitConfig
from vidclf.ensemble.member_record import MemberRecord
from vidclf.training.publish import prior_temperature


def member(**trial: float) -> MemberRecord:
    return MemberRecord(file="f", backbone="b", digest="d", trial=trial or None)


def test_the_prior_corrects_the_loss_of_the_members() -> None:
    # Without smoothing the temperature is 1 / (1 + gamma).
    config = FitConfig(focal_gamma=3.0, label_smoothing=0.0)
    assert prior_temperature(config, [member(), member()], 4) == pytest.approx(1 / 4)
    assert prior_temperature(FitConfig(), [member()], 4) == pytest.approx(0.5431, abs=1e-4)


def test_members_from_a_search_have_settings_of_their_own() -> None:
    # The geometric mean of 1 / 4 for the trial with gamma 3, and of 1 for the trial with cross-entropy.
    members = [member(focal_gamma=3.0, label_smoothing=0.0), member(focal_gamma=0.0, label_smoothing=0.2)]
    assert prior_temperature(FitConfig(), members, 4) == pytest.approx(1 / 2)
