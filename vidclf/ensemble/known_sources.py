"""How many of an ensemble's videos have a known source (recording), and the sentence about those that have none.

A video without a named source counts as its own: `jobs/index.py` then takes its location for the group. Parts of one
recording may so be in training and in validation, and accuracy, calibration and risk are stated too well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vidclf.credentials import masked


@dataclass(frozen=True, kw_only=True)
class KnownSources:
    """The entry `sources` of `training` in `ensemble.json`."""

    num_videos: int
    """number of train and validation videos"""
    num_unknown: int
    """number of those that no list, file name or comparison of features gave a source"""

    @classmethod
    def of(cls, video_uris: Sequence[str], groups: Sequence[str], splits: Sequence[str | None]) -> KnownSources:
        """Count the train and validation videos whose group is only the location of a video."""
        own_names = {masked(uri) for uri in video_uris}
        used = [group for group, split in zip(groups, splits, strict=True) if split in ("train", "val")]
        # Videos that differ only in hidden credentials have a digest behind their location.
        return cls(
            num_videos=len(used),
            num_unknown=sum(group in own_names or group.rsplit("#", 1)[0] in own_names for group in used),
        )

    @property
    def caveat(self) -> str:
        """The sentence about videos of unknown sources; empty if all sources are known."""
        if not self.num_unknown:
            return ""
        return (
            f"this holds for videos of known sources only: the sources of {self.num_unknown} of the {self.num_videos} "
            "training and validation videos are unknown, and parts of one recording among them make accuracy and risk "
            "look too good; name sources in the column group or with --group-pattern of jobs/index.py"
        )


def caveat_of(training: Mapping[str, Any]) -> str:
    """The sentence about videos of unknown sources, from the entry `training` of `ensemble.json`; empty if all are
    known or an earlier version did not count them."""
    counts = training.get("sources")
    return KnownSources(**counts).caveat if counts is not None else ""


def are_counts(value: Any) -> bool:
    """Whether the entry `sources` of `training` has the fields of `KnownSources`, or is absent (None)."""
    names = {field.name for field in fields(KnownSources)}
    return value is None or (
        isinstance(value, Mapping)
        and set(value) == names
        and all(type(number) is int and number >= 0 for number in value.values())
    )
