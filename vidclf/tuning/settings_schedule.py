"""The schedule of a trial's settings: which settings were in force in which epoch of its training.

In population-based training (Jaderberg et al. 2017, arXiv:1711.09846) a trial may continue from the weights of another
trial, with settings that were changed at random. A schedule of settings has then made its result, and the settings that
were in force in an epoch have made its score. In all other searches the schedule has one entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schedule = list[dict[str, Any]]
"""Entries in the order of the epochs: `first_epoch` (counted from 1) and `settings`, which hold from that epoch on."""


def continued(schedule: Sequence[Mapping[str, Any]], num_epochs: int, settings: Mapping[str, Any]) -> Schedule:
    """The schedule of a training that continues with `settings` after `num_epochs` epochs of `schedule`."""
    kept = [dict(entry) for entry in schedule if entry["first_epoch"] <= num_epochs]
    if kept and kept[-1]["settings"] == dict(settings):
        return kept
    return [*kept, {"first_epoch": num_epochs + 1 if kept else 1, "settings": dict(settings)}]


def settings_at(schedule: Sequence[Mapping[str, Any]], epoch: int) -> dict[str, Any]:
    """The settings in force in an epoch, counted from 1. `schedule` is not empty."""
    return dict(next(entry["settings"] for entry in reversed(schedule) if entry["first_epoch"] <= epoch))


def described(schedule: Sequence[Mapping[str, Any]]) -> list[str]:
    """One text per entry of a schedule, with the settings that differ between entries; empty if nothing changed."""
    if len(schedule) < 2:
        return []
    first = schedule[0]["settings"]
    changed = [name for name in first if any(entry["settings"][name] != first[name] for entry in schedule)]
    return [
        f"from epoch {entry['first_epoch']}: " + ", ".join(f"{name} {entry['settings'][name]}" for name in changed)
        for entry in schedule
    ]
