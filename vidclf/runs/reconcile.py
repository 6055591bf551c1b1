"""Bringing a run's shards back to one row a video before a job continues it.

What a job that was killed left half-done, and what the user wants done again, becomes pending. One
job may fill several runs at once (one a backbone); a video is then finished when it is in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.runs.layout import Run, file_name
from vidclf.runs.output_files import TEMPORARY
from vidclf.runs.state import RunState, Shards, manifest_ids, repeated, state_of, within, without
from vidclf.schema import VIDEO_ID

CHECKPOINT_DIR = "_checkpoint"
"""Where Ray Data commits its write tasks; empty when a job starts, which is to do all it is given."""

PENDING_FILE = "pending.parquet"
"""The manifest's rows of the videos that are left, where some are done: what a continued job reads.

Ray Data would filter a whole manifest by its record of finished rows, with an actor that wants a whole
CPU. On nodes that are full of decoders there is none, and the job waits for ever.
"""

ATTEMPTS_FILE = "_attempts.parquet"
"""How often videos that were taken out of quarantine had been tried."""


def unfinished(runs: Sequence[str]) -> int:
    """How many of the videos of `runs`, which one job fills, are not done in all of them."""
    asked = manifest_ids(runs[0])
    return len(without(asked, _finished([_found(run) for run in runs])))


def reconcile(output: str, runs: Sequence[str]) -> RunState:
    """Make the shards of `runs`, which one job fills, agree with each other, and write down in `output`
    which videos are left; the state that all of them are in then.

    Removed are: what a killed write left half-written; rows of videos that are not in all of the
    runs, and segments of videos that are not done; a video's second row, which tasks of a job that was
    killed may still have written beside the next job's (the quarantine row, if one is ok). Raises
    ConfigError for a shard that cannot be read: nobody knows what it held.
    """
    for path in storage.list_files(output, ".tmp", recursive=True):
        if re.search(rf"{TEMPORARY}$", path):  # others of this ending are not ours
            storage.delete_file(path)
    asked = manifest_ids(runs[0])
    shards = [_found(run) for run in runs]
    finished = _finished(shards)
    for index, (run, (ok, rejected)) in enumerate(zip(runs, shards, strict=True)):
        found = pa.concat_arrays([ok.ids, rejected.ids])
        surplus = pa.concat_arrays([without(found, finished), repeated(found)])
        if len(surplus):
            _drop_surplus(run, surplus, finished)
            shards[index] = _found(run)
        _trim_segments(run)
    checkpoint = storage.join(output, CHECKPOINT_DIR)
    storage.delete_tree(checkpoint)
    storage.create_dir(checkpoint)
    state = state_of(asked, *shards[0])
    pending = storage.join(output, PENDING_FILE)
    if 0 < state.num_pending < state.num_input_videos:
        storage.publish_filtered(pending, Run(runs[0]).manifest_file, VIDEO_ID, finished)
    elif storage.exists(pending):
        storage.delete_file(pending)
    return state


def to_read(output: str, runs: Sequence[str]) -> str:
    """The manifest of what is left to do of `runs`, after `reconcile`."""
    pending = storage.join(output, PENDING_FILE)
    return pending if storage.exists(pending) else Run(runs[0]).manifest_file


def _found(run: str) -> tuple[Shards, Shards]:
    unreadable: list[str] = []
    found = (
        Shards.read(Run(run).shards(), [], None, unreadable),
        Shards.read(Run(run).quarantine_shards(), ["reason"], None, unreadable),
    )
    if unreadable:
        raise ConfigError(f"--output {run}: {unreadable[0]}; remove it to have its videos done again")
    return found


def _finished(shards: Sequence[tuple[Shards, Shards]]) -> pa.Array:
    """The ids that are done or quarantined in every one of a job's runs, once each."""
    first, *others = [pa.concat_arrays([ok.ids, rejected.ids]) for ok, rejected in shards]
    for other in others:
        first = within(first, other)
    return first.unique()


def _drop_surplus(run: str, surplus: pa.Array, finished: pa.Array) -> None:
    """Remove the rows of `surplus` from a run's shards, but for the first of each that is finished."""
    unwanted = set(surplus.to_pylist())
    wanted_once = set(within(surplus, finished).to_pylist())
    for path in Run(run).shards() + Run(run).quarantine_shards():
        is_kept = []
        for video in storage.read_table(path, [VIDEO_ID])[VIDEO_ID].to_pylist():
            is_kept.append(video not in unwanted or video in wanted_once)
            wanted_once.discard(video)
        _keep_rows(path, pa.array(is_kept, pa.bool_()))


def _trim_segments(run: str) -> None:
    """Remove segments whose video is not in the shard of the same name, and a segment's second row."""
    shards = {file_name(path): path for path in Run(run).shards()}
    for path in Run(run).segment_shards():
        name = file_name(path)
        videos = set(storage.read_table(shards[name], [VIDEO_ID])[VIDEO_ID].to_pylist()) if name in shards else set()
        seen: set[tuple[str, int]] = set()
        is_kept = []
        rows = storage.read_table(path, [VIDEO_ID, "segment_index"])
        for segment in zip(rows[VIDEO_ID].to_pylist(), rows["segment_index"].to_pylist(), strict=True):
            is_kept.append(segment[0] in videos and segment not in seen)
            seen.add(segment)
        _keep_rows(path, pa.array(is_kept, pa.bool_()))


def drop(run: str, videos: pa.Array) -> None:
    """Take videos out of a run's ok rows: they are pending again."""
    for path in Run(run).shards():
        _keep_rows(path, pc.invert(pc.is_in(storage.read_table(path, [VIDEO_ID])[VIDEO_ID], videos)))


def _keep_rows(path: str, is_kept: pa.Array) -> None:
    """Publish a shard again with only some of its rows; without any, it is deleted."""
    if pc.all(is_kept).as_py() is not False:
        return
    kept = storage.read_table(path).filter(is_kept)
    if kept.num_rows:
        storage.publish_table(path, kept)
    else:
        storage.delete_file(path)


def quarantined_for(run: str, reasons: frozenset[str]) -> int:
    """How many videos are in quarantine for one of `reasons`."""
    tables = storage.iter_tables(Run(run).quarantine_shards(), ["reason"])
    return sum(
        pc.sum(pc.is_in(table["reason"], pa.array(sorted(reasons), pa.string()))).as_py() or 0 for table in tables
    )


def release(output: str, runs: Sequence[str], reasons: frozenset[str]) -> None:
    """Take the videos that were rejected for one of `reasons` out of the quarantine of `runs`, which one
    job fills: they are pending again.

    Their attempts are written down first, so that a kill in between loses no count.
    """
    for path in [path for run in runs for path in Run(run).quarantine_shards()] if reasons else []:
        table = storage.read_table(path)
        is_released = pc.is_in(table["reason"], pa.array(sorted(reasons), pa.string()))
        attempts = {**read_attempts(output), **_pairs(table.filter(is_released))}
        if pc.any(is_released).as_py():
            columns = {VIDEO_ID: pa.array(list(attempts)), "attempts": pa.array(list(attempts.values()), pa.int32())}
            storage.publish_table(storage.join(output, ATTEMPTS_FILE), pa.table(columns))
            _keep_rows(path, pc.invert(is_released))


def read_attempts(output: str) -> dict[str, int]:
    """How often each video that was taken out of quarantine had been tried by then."""
    path = storage.join(output, ATTEMPTS_FILE)
    return _pairs(storage.read_table(path)) if storage.exists(path) else {}


def _pairs(table: pa.Table) -> dict[str, int]:
    return dict(zip(table[VIDEO_ID].to_pylist(), table["attempts"].to_pylist(), strict=True))
