"""Difference between the rows that an export's output has and those that it will have.

It is computed from the rows alone, so no record of finished exports can contradict them. The column `run_id` names the
run (with its content) from which a row comes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import pyarrow as pa

from vidclf.config.export import Mode
from vidclf.errors import ConfigError

KEYS = ("run_id", "video_id", "ensemble_id")
"""Columns that every output has, from which the difference is computed."""


@dataclass(frozen=True)
class Present:
    """The keys of the rows that an output has: for each video, the runs and ensembles of its rows."""

    runs: dict[str, set[str]] = field(default_factory=dict)
    """`run_id` of the rows of each video, by video id"""
    ensembles: dict[str, set[str]] = field(default_factory=dict)
    """`ensemble_id` of the rows of each video, by video id"""

    def add(self, run_id: str, video_id: str, ensemble_id: str) -> None:
        """Count one row."""
        self.runs.setdefault(video_id, set()).add(run_id)
        self.ensembles.setdefault(video_id, set()).add(ensemble_id)

    @classmethod
    def of(cls, table: pa.Table) -> Present:
        """The keys of a table with the columns `KEYS`."""
        present = cls()
        for row in table.select(list(KEYS)).group_by(list(KEYS)).aggregate([]).to_pylist():
            present.add(row["run_id"], row["video_id"], row["ensemble_id"])
        return present


@dataclass(frozen=True)
class Change:
    """What an export must do. An output changes in one commit."""

    written: Set[str]
    """ids of the videos whose rows are added"""
    removed: Set[str]
    """ids of the videos whose rows in the output are removed"""
    removes_all: bool = False
    """whether all rows of the output are removed, also of other videos"""

    @property
    def is_nothing(self) -> bool:
        """Whether the output has the wanted rows already."""
        return not self.written and not self.removed and not self.removes_all


def change(mode: Mode, videos: Set[str], run_id: str, ensemble_id: str, present: Present, where: str) -> Change:
    """Difference between the rows `present` in an output and those after the export of `videos` of a run.

    Raises ConfigError in the mode `append` if the output has rows of the same videos by the same ensemble, from another
    run or from another state of this one. `where` names the output in the message.
    """
    if mode == "new-snapshot":
        is_same = present.runs.keys() == videos and all(runs == {run_id} for runs in present.runs.values())
        return Change(set(), set()) if is_same else Change(videos, set(), removes_all=bool(present.runs))
    if mode == "replace-by-video":
        written = {video for video in videos if present.runs.get(video) != {run_id}}
        return Change(written, written & present.runs.keys())
    missing = {video for video in videos if run_id not in present.runs.get(video, ())}
    clashes = sorted(video for video in missing if ensemble_id in present.ensembles.get(video, ()))
    if clashes:
        raise ConfigError(
            f"--output {where}: has other rows of {len(clashes)} of these videos by the same ensemble (for one "
            f"{clashes[0]}), from another run or with other columns; --mode replace-by-video replaces them"
        )
    return Change(missing, set())
