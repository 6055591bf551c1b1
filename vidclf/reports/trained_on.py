"""Use of compared videos in the training of the two ensembles that classified them, from the ensembles' own records.

An ensemble changes its classes less often on videos that it was trained on, so that these say little about new videos.
The module imports no torch, so that `diff` starts quickly.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from vidclf import schema, storage
from vidclf.ensemble.held_out import USED, decide
from vidclf.ensemble.split_record import SplitRecord, read_record
from vidclf.reports import video_kinds
from vidclf.reports.stated_locations import stated_ensemble, stated_means
from vidclf.runs.layout import Run


@dataclass(frozen=True, kw_only=True)
class Uses:
    """Use of each compared video in training."""

    names: list[str]
    """`trained on`, `validated on` or `held out` per video, by the ensemble that used it most; `unknown` for a video
    that no known record lists, if one of the records does not show that it is held out"""
    doubts: dict[str, str]
    """for `before` and `after`, why the record of the ensemble does not show which videos are held out; empty texts if
    it does"""


def uses(both: pa.Table, groups: Sequence[str], locations: dict[str, str]) -> Uses:
    """The use of the videos in the table `both` of `Comparison` by the ensembles of both classifications.

    `groups` names the source of each video. `locations` has the location of each classification, by the names `before`
    and `after`.

    Raises ConfigError if an ensemble is still where its classification found it, but its record was changed.
    """
    splits: list[list[str]] = [[] for _ in groups]
    doubts = {}
    for side, location in locations.items():
        directory = posixpath.dirname(location) if location.endswith(".parquet") else location
        record = _record(side, directory, both[f"ensemble_id_{side}"].unique().to_pylist())
        digests = both[f"content_digest_{side}"]
        videos = pa.table(
            {
                schema.VIDEO_ID: both[schema.VIDEO_ID],
                "group": pa.array(groups, pa.string()),
                "split": pa.nulls(len(groups), pa.string()),
                "content_digest": digests,
            }
        )
        decision = decide(videos, record, stated_means(directory, record.feature_key))
        doubts[side] = record.doubt
        for index, split in enumerate(decision.splits):
            is_known = not record.doubt and decision.is_identified[index]
            splits[index].append(split if split in USED else "test" if is_known else video_kinds.UNKNOWN)
    order = (*USED, video_kinds.UNKNOWN, "test")
    strictest = [min(names, key=order.index) for names in splits]
    return Uses(names=[video_kinds.TRAINING_USES.get(name, name) for name in strictest], doubts=doubts)


def _record(side: str, directory: str, ensemble_ids: Sequence[str]) -> SplitRecord:
    """Record of the ensemble whose classification is in a directory; without rows and with a doubt if the ensemble is
    not there any more."""
    ensemble, note = stated_ensemble(directory)
    if ensemble is None:
        return SplitRecord.unknown(note.removesuffix("; give --ensemble"))
    if (pair := _pair(directory)) is not None and set(ensemble_ids) <= set(pair):
        # What the ensemble of the first look was trained on is in the same splits of the other one.
        ensemble_ids = pair[:1]
    if len(ensemble_ids) != 1:
        return SplitRecord.unknown(f"the predictions are of several ensembles ({', '.join(sorted(ensemble_ids))})")
    return read_record(ensemble, f"--{side}", ensemble_ids[0])


def _pair(directory: str) -> tuple[str, str] | None:
    """Ids of the ensemble of the classification in a directory, and of another one that took the first look; None if
    there was no other one."""
    run = Run(directory)
    identity = run.identity() if storage.exists(run.identity_file) else {}
    first_id = identity.get("settings", {}).get("first_ensemble_id")
    return (identity["ensemble_id"], first_id) if first_id is not None else None
