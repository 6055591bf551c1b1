"""Audit of a run: proof, from its files alone, that every video is accounted for exactly once."""

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
"""Columns whose value in every row must equal the value in `run_identity.json`."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Result of an audit: the counts and every difference found."""

    state: RunState
    differences: list[str] = field(default_factory=list)
    """one sentence each; empty if the numbers add up"""


def audit(run: str) -> Audit:
    """Compare a run's manifest with its shards, quarantine, identity and summary.

    Reports as differences:

    - a video in no place or in several places,
    - a video that the manifest lacks,
    - a reject reason outside the closed list,
    - a shard that cannot be read, has other columns than the run, or has rows of another feature key or ensemble,
    - segments without their video, videos without segments, repeated segments,
    - a leftover temporary file,
    - a summary that is absent or has other counts.

    Raises ConfigError if `run` is not a run directory.
    """
    runs_in(run)
    differences: list[str] = []
    identity = _read_identity(run, differences)
    constants = [name for name in _CONSTANTS if name in identity.get("columns", {})]
    manifest = manifest_ids(run)
    ok = Shards.read(Run(run).shards(), constants, identity.get("columns"), differences)
    rejected = Shards.read(Run(run).quarantine_shards(), ["reason"], column_types(QUARANTINE), differences)
    state = state_of(manifest, ok, rejected)

    differences += _placement_differences(manifest, ok, rejected)
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


def report(differences: list[str], videos: pa.Array, what: str) -> None:
    """Append one difference that counts `videos` and names the first three. Append nothing if there are none."""
    if len(videos):
        ids = sorted(videos.unique().to_pylist())
        shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        differences.append(f"{len(ids)} video(s) {what}: {shown}")


def _read_identity(run: str, differences: list[str]) -> dict[str, Any]:
    """The content of `run_identity.json`. If it cannot be read: empty, and one difference more."""
    try:
        return Run(run).identity()
    except (OSError, ValueError) as error:
        differences.append(f"{IDENTITY_FILE} cannot be read: {error}")
        return {}


def _placement_differences(manifest: pa.Array, ok: Shards, rejected: Shards) -> list[str]:
    """Videos that are not in exactly one place, or that the manifest lacks."""
    differences: list[str] = []
    row_ids = pa.concat_arrays([ok.ids, rejected.ids])
    report(differences, repeated(manifest), "in the manifest more than once")
    report(differences, without(manifest, row_ids), "pending: neither done nor quarantined")
    report(differences, repeated(ok.ids), "done more than once")
    report(differences, repeated(rejected.ids), "quarantined more than once")
    report(differences, within(ok.ids, rejected.ids), "both done and quarantined")
    report(differences, without(row_ids, manifest), "done or quarantined but not in the manifest")
    return differences


def _segment_differences(run: str, types: dict[str, str]) -> list[str]:
    """Differences between the shards and their segments.

    The segments of a shard must belong to its videos, cover all of them and not repeat. `types` maps the segment
    columns to their Arrow types.
    """
    differences: list[str] = []
    shards = {file_name(path): path for path in Run(run).shards()}
    segment_shards = {file_name(path): path for path in Run(run).segment_shards()}
    for name in sorted(shards.keys() | segment_shards.keys()):
        videos = Shards.read([shards[name]] if name in shards else [], (), None, []).ids
        segment_paths = [segment_shards[name]] if name in segment_shards else []
        segments = Shards.read(segment_paths, ["segment_index"], types, differences)
        report(differences, without(videos, segments.ids), f"of {name} without segments")
        report(differences, without(segments.ids, videos), f"with segments in {SEGMENTS_DIR}/{name} but not in {name}")
        for table in segments.tables:
            num_distinct = table.group_by([VIDEO_ID, "segment_index"]).aggregate([]).num_rows
            if num_distinct != table.num_rows:
                differences.append(f"{table.num_rows - num_distinct} segment(s) twice in {SEGMENTS_DIR}/{name}")
    return differences


def _summary_differences(run: str, state: RunState) -> list[str]:
    """Differences between the counts in `summary.json` and the counts from the files."""
    if not Run(run).is_finished():
        return [f"no {SUMMARY_FILE}: the job has not ended"]
    try:
        summary = Run(run).summary()
    except ValueError as error:
        return [f"{SUMMARY_FILE} cannot be read: {error}"]
    return [
        f"{SUMMARY_FILE} says {name} = {summary.get(name)}, the files say {expected}"
        for name in ("num_input_videos", "num_ok", "num_quarantined", "num_pending", "reasons")
        if summary.get(name) != (expected := getattr(state, name))
    ]
