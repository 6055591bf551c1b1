"""Audit of a run directory: proof from its files that every video has exactly one result row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.arrow import column_types
from vidclf.runs.layout import IDENTITY_FILE, SEGMENTS_DIR, SUMMARY_FILE, Run, file_name, runs_in
from vidclf.runs.state import RunState, Shards, locations_of, manifest_ids, repeated, state_of, within, without
from vidclf.schema import QUARANTINE, VIDEO_ID, RejectReason

_CONSTANTS = ("feature_key", "ensemble_id")
"""Columns that hold the same value in every row of a run directory: the value under this name in
`run_identity.json`. Rows that `--first-ensemble` decided hold the id of that ensemble."""

_FINITE = (
    *("confidence", "probabilities", "trust_score", "ood_score", "member_disagreement"),
    *("member_probabilities", "view_probabilities", "attention"),
    *("sublabel_confidence", "sublabel_trust", "sublabel_probabilities"),
)
"""Columns of predictions that must hold no NaN and no infinity."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Result of an audit of a run directory: the numbers of videos by state, and all differences found."""

    state: RunState
    """numbers of ok, quarantined (rejected) and pending videos"""
    differences: list[str] = field(default_factory=list)
    """one sentence for each contradiction between the files; empty if there is none"""


def audit(run: str) -> Audit:
    """Compare the manifest of a run directory with its shards (Parquet files of result rows), its quarantine (rows of
    rejected videos), its identity file and its summary.

    Reports as differences:

    - a video that is neither ok nor quarantined, or has several rows,
    - a video with a row that is not in the manifest,
    - a reject reason outside the closed list,
    - a shard that cannot be read, has other columns than the run, or has rows of another feature key or ensemble,
    - a prediction of a video or segment that is NaN or infinite,
    - segments (time spans of a video) without their video, videos without segments, repeated segments,
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

    differences += _placement_differences(run, manifest, ok, rejected)
    closed = {reason.value for reason in RejectReason}
    differences += [f"reject reason {name!r} is not in the closed list" for name in state.reasons if name not in closed]
    for name in constants:
        known = {identity[name], _first_ensemble(identity) if name == "ensemble_id" else identity[name]}
        others = [value for table in ok.tables for value in table[name].unique().to_pylist() if value not in known]
        if others:
            differences.append(f"{name} of this run is {identity[name]}, shards hold {', '.join(sorted(set(others)))}")
    if identity.get("ensemble_id") is not None:
        columns = [identity.get("columns", {}), identity.get("segment_columns", {})]
        for paths, types in zip((Run(run).shards(), Run(run).segment_shards()), columns, strict=True):
            report(run, differences, _not_finite(paths, types), "with a prediction that is NaN or infinite")
    if "segment_columns" in identity:
        differences += _segment_differences(run, identity["segment_columns"])
    differences += [f"leftover temporary file {path}" for path in storage.list_files(run, ".tmp", recursive=True)]
    differences += _summary_differences(run, state)
    return Audit(state=state, differences=differences)


def _first_ensemble(identity: dict[str, Any]) -> str:
    """Id of the ensemble that took the first look of the run; that of the run itself if no other one did."""
    return str(identity.get("settings", {}).get("first_ensemble_id", identity["ensemble_id"]))


def report(run: str, differences: list[str], videos: pa.Array, what: str) -> None:
    """Append to `differences` one sentence: the number of `videos` (ids), the words `what` that say what is wrong with
    them, and the locations of the first three.

    Appends nothing if `videos` is empty.
    """
    if len(videos):
        ids = sorted(videos.unique().to_pylist())
        shown = ", ".join(locations_of(run, ids[:3])) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        differences.append(f"{len(ids)} video(s) {what}: {shown}")


def _read_identity(run: str, differences: list[str]) -> dict[str, Any]:
    """Return the content of `run_identity.json` as a dictionary.

    If the file cannot be read, returns an empty dictionary and appends a sentence to `differences`.
    """
    try:
        return Run(run).identity()
    except (OSError, ValueError) as error:
        differences.append(f"{IDENTITY_FILE} cannot be read: {error}")
        return {}


def _placement_differences(run: str, manifest: pa.Array, ok: Shards, rejected: Shards) -> list[str]:
    """One sentence for each way in which videos have no row or several rows (ok or quarantined), or are missing from or
    repeated in the manifest."""
    differences: list[str] = []
    row_ids = pa.concat_arrays([ok.ids, rejected.ids])
    report(run, differences, repeated(manifest), "in the manifest more than once")
    report(run, differences, without(manifest, row_ids), "pending: neither done nor quarantined")
    report(run, differences, repeated(ok.ids), "done more than once")
    report(run, differences, repeated(rejected.ids), "quarantined more than once")
    report(run, differences, within(ok.ids, rejected.ids), "both done and quarantined")
    report(run, differences, without(row_ids, manifest), "done or quarantined but not in the manifest")
    return differences


def _segment_differences(run: str, types: dict[str, str]) -> list[str]:
    """Sentences for the differences between the result files of the videos and the files with their segments (time
    spans).

    The segments in a file must belong to the videos in the result file of the same name, cover all of them and not
    repeat. `types` maps the segment columns to their Arrow types.
    """
    differences: list[str] = []
    shards = {file_name(path): path for path in Run(run).shards()}
    segment_shards = {file_name(path): path for path in Run(run).segment_shards()}
    for name in sorted(shards.keys() | segment_shards.keys()):
        videos = Shards.read([shards[name]] if name in shards else [], (), None, []).ids
        segment_paths = [segment_shards[name]] if name in segment_shards else []
        segments = Shards.read(segment_paths, ["segment_index"], types, differences)
        report(run, differences, without(videos, segments.ids), f"of {name} without segments")
        report(
            run, differences, without(segments.ids, videos), f"with segments in {SEGMENTS_DIR}/{name} but not in {name}"
        )
        for table in segments.tables:
            num_distinct = table.group_by([VIDEO_ID, "segment_index"]).aggregate([]).num_rows
            if num_distinct != table.num_rows:
                differences.append(f"{table.num_rows - num_distinct} segment(s) twice in {SEGMENTS_DIR}/{name}")
    return differences


def _not_finite(paths: list[str], types: dict[str, str]) -> pa.Array:
    """Ids of the videos whose rows in the files at `paths` hold a number of `_FINITE` that is not finite.

    `types` names the columns of the files. Files that cannot be read or lack a column are left out: they are reported
    on their own.
    """
    names = [name for name in _FINITE if name in types]
    found = [pa.array([], pa.string())]
    for path in paths if names else ():
        for _, shard in storage.read_all([path], [VIDEO_ID, *names]):
            if isinstance(shard, Exception):
                continue
            is_wrong = pa.array([False] * shard.table.num_rows, pa.bool_())
            for name in names:
                is_wrong = pc.or_(is_wrong, _has_wrong(shard.table[name].combine_chunks()))
            found.append(shard.table[VIDEO_ID].filter(is_wrong).cast(pa.string()).combine_chunks())
    return pa.concat_arrays(found)


def _has_wrong(column: pa.Array) -> pa.Array:
    """Whether each value of a column, or a value in its list, is NaN or infinite. Null counts as finite."""
    if not pa.types.is_list(column.type) and not pa.types.is_fixed_size_list(column.type):
        return pc.invert(pc.is_finite(column)).fill_null(False)
    parents = pc.list_parent_indices(column).filter(_has_wrong(pc.list_flatten(column)))
    return pc.is_in(pa.array(range(len(column)), pa.int64()), parents.cast(pa.int64()))


def _summary_differences(run: str, state: RunState) -> list[str]:
    """Sentences for the counts in `summary.json` that differ from the counts in `state`, which come from the other
    files."""
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
