"""The schedule of a trial's settings."""

from __future__ import annotations

from vidclf.tuning.settings_schedule import continued, described, settings_at

FIRST = {"lr": 0.1, "dropout": 0.2}
SECOND = {"lr": 0.1, "dropout": 0.3}


def test_a_training_that_continues_with_the_same_settings_has_one_entry() -> None:
    schedule = continued([], 0, FIRST)
    assert schedule == [{"first_epoch": 1, "settings": FIRST}]
    assert continued(schedule, 7, FIRST) == schedule
    assert described(schedule) == []


def test_other_settings_hold_from_the_next_epoch_on() -> None:
    schedule = continued(continued([], 0, FIRST), 5, SECOND)
    assert schedule == [{"first_epoch": 1, "settings": FIRST}, {"first_epoch": 6, "settings": SECOND}]
    assert [settings_at(schedule, epoch) for epoch in (1, 5, 6, 99)] == [FIRST, FIRST, SECOND, SECOND]
    assert described(schedule) == ["from epoch 1: dropout 0.2", "from epoch 6: dropout 0.3"]


def test_what_comes_after_the_state_that_a_training_continues_from_is_forgotten() -> None:
    schedule = continued(continued([], 0, FIRST), 5, SECOND)
    # From a state after epoch 3, in which only the first settings had been in force.
    assert continued(schedule, 3, FIRST) == [{"first_epoch": 1, "settings": FIRST}]
    # From a state without an epoch.
    assert continued(schedule, 0, SECOND) == [{"first_epoch": 1, "settings": SECOND}]
