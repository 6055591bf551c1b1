"""Proof, from the files alone, that every video of a run is in exactly one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vidclf import storage
from vidclf.arrow import column_types
from vidclf.runs.layout import IDENTITY_FILE, SEGMENTS_DIR, SUMMARY_FILE, Run, file_name, runs_in
from vidclf.runs.state import RunState, Shards, manifest_ids, repeated, state_of, within, without
from vidclf.schema import QUARANTINE, VIDEO_ID, RejectReason

_CONSTANTS = ("feature_key", "ensemble_id")
"""Columns that hold what `run_identity.json` says, in every row."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Outcome of an audit: the state, and every difference found (none: the numbers add up)."""

    state: RunState
    differences: list[str] = field(default_factory=list)


def audit(run: str) -> Audit:
    """Compare a run's manifest with its shards, quarantine, identity and summary.

    Differences reported: a video in no place or in several, a video nobody asked for, a reason
    outside the closed list, a shard that cannot be read, that has other columns or rows made in
    another way than the run's, a leftover temporary file, a summary that is absent or counts
    otherwise. Raises ConfigError where `run` is not a run directory.
    """
    runs_in(run)
    differences: list[str] = []
    identity = _identity(run, differences)
    constants = [name for name in _CONSTANTS if name in identity.get("columns", {})]
    asked = manifest_ids(run)
    ok = Shards.read(Run(run).shards(), constants, identity.get("columns"), differences)
    in_quarantine = column_types(QUARANTINE)
    rejected = Shards.read(Run(run).quarantine_shards(), ["reason"], in_quarantine, differences)
    state = state_of(asked, ok, rejected)

    found = pa.concat_arrays([ok.ids, rejected.ids])
    report(differences, repeated(asked), "in the manifest more than once")
    report(differences, without(asked, found), "pending: neither done nor quarantined")
    report(differences, repeated(ok.ids), "done more than once")
    report(differences, repeated(rejected.ids), "quarantined more than once")
    report(differences, within(ok.ids, rejected.ids), "both done and quarantined")
    report(differences, without(found, asked), "done or quarantined but not in the manifest")
    known = {reason.value for reason in RejectReason}
    differences += [f"reject reason {name!r} is not in the closed list" for name in state.reasons if name not in known]
    for name in constants:
        others = [value for table in ok.tables for value in table[name].unique().to_pylist() if value != identity[name]]
        if others:
            differences.append(f"{name} of this run is {identity[name]}, shards hold {', '.join(sorted(set(others)))}")
    if "segment_columns" in identity:
        differences += _segment_differences(run, identity["segment_columns"])
    differences += [f"leftover temporary file {path}" for path in storage.list_files(run, ".tmp", recursive=True)]
    differences += _summary_differences(run, state)
    return Audit(state=state, differences=differences)


def _identity(run: str, differences: list[str]) -> dict[str, Any]:
    path = Run(run).identity_file
    try:
        return dict(storage.read_json(path))
    except (OSError, ValueError) as error:
        differences.append(f"{IDENTITY_FILE} cannot be read: {error}")
        return {}


def _segment_differences(run: str, types: dict[str, str]) -> list[str]:
    """What is wrong with a run's segments: those of each shard are of its videos, of all of them, and once."""
    differences: list[str] = []
    shards = {file_name(path): path for path in Run(run).shards()}
    segments = {file_name(path): path for path in Run(run).segment_shards()}
    for name in sorted(shards.keys() | segments.keys()):
        videos = Shards.read([shards[name]] if name in shards else [], (), None, []).ids
        found = Shards.read([segments[name]] if name in segments else [], ["segment_index"], types, differences)
        report(differences, without(videos, found.ids), f"of {name} without segments")
        report(differences, without(found.ids, videos), f"with segments in {SEGMENTS_DIR}/{name} but not in {name}")
        for table in found.tables:
            once = table.group_by([VIDEO_ID, "segment_index"]).aggregate([])
            if once.num_rows != table.num_rows:
                differences.append(f"{table.num_rows - once.num_rows} segment(s) twice in {SEGMENTS_DIR}/{name}")
    return differences


def _summary_differences(run: str, state: RunState) -> list[str]:
    path = Run(run).summary_file
    if not storage.exists(path):
        return [f"no {SUMMARY_FILE}: the job has not ended"]
    try:
        summary = storage.read_json(path)
    except ValueError as error:
        return [f"{SUMMARY_FILE} cannot be read: {error}"]
    return [
        f"{SUMMARY_FILE} says {name} = {summary.get(name)}, the files say {expected}"
        for name in ("num_input_videos", "num_ok", "num_quarantined", "num_pending", "reasons")
        if summary.get(name) != (expected := getattr(state, name))
    ]


def report(differences: list[str], videos: pa.Array, what: str) -> None:
    """Add a difference that names the first of `videos`, if there are any."""
    if len(videos):
        named = sorted(videos.unique().to_pylist())
        shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        differences.append(f"{len(named)} video(s) {what}: {shown}")
