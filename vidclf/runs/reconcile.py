"""Repair of a run directory before a job continues it: afterwards each video has at most one result row.

Videos that a killed job left half-done become pending (to be done), and so do videos that the user wants done again.
One job may fill several run directories at once (one per backbone). A video is then finished only if it has a row in
all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.runs.layout import Run, file_name
from vidclf.runs.output_allowlist import TEMPORARY
from vidclf.runs.state import RunState, Shards, manifest_ids, repeated, state_of, within, without
from vidclf.schema import VIDEO_ID

CHECKPOINT_DIR = "_checkpoint"
"""Name of the directory in which Ray Data records its finished write tasks. Emptied at the start of a job, so that Ray
Data skips no video."""

PENDING_FILE = "pending.parquet"
"""Name of the file with the manifest's rows of the pending videos. A continued job reads this file instead of the
manifest.

Ray Data could filter the whole manifest by its record of finished rows, but its filter is an actor that needs a whole
CPU. On nodes that are full of decoders no CPU is free, and the job would wait for ever.
"""

ATTEMPTS_FILE = "_attempts.parquet"
"""Name of the file with the number of processing attempts that each video had when it was taken out of quarantine (the
rejected videos) to be tried again."""


def unfinished(runs: Sequence[str]) -> int:
    """Number of videos that are not yet ok or quarantined in all `runs` (run directories) of one job."""
    return len(without(manifest_ids(runs[0]), _finished([_read_shards(run) for run in runs])))


def reconcile(output: str, runs: Sequence[str]) -> RunState:
    """Make the `runs` (run directories) of one job agree with each other, and write the list of their pending videos
    into `output`.

    Returns the numbers of ok, quarantined and pending videos afterwards, which are those of each run. Removes

    - temporary files of a killed write,
    - rows of videos that do not have a row in all of the runs,
    - segments (time spans) of videos that are not done,
    - additional rows of a video, which tasks of a killed job may write beside the next job's. The first ok row stays,
      or the first quarantine row if no row is ok.

    Raises ConfigError if a shard (result file) cannot be read, because its videos are then unknown.
    """
    for path in storage.list_files(output, ".tmp", recursive=True):
        if re.search(rf"{TEMPORARY}$", path):  # other files may end in .tmp, too
            storage.delete_file(path)
    shards = [_read_shards(run) for run in runs]
    finished_ids = _finished(shards)
    for index, (run, (ok, rejected)) in enumerate(zip(runs, shards, strict=True)):
        row_ids = pa.concat_arrays([ok.ids, rejected.ids])
        surplus_ids = pa.concat_arrays([without(row_ids, finished_ids), repeated(row_ids)])
        if len(surplus_ids):
            _drop_surplus(run, surplus_ids, finished_ids)
            shards[index] = _read_shards(run)
        _trim_segments(run)
    checkpoint = storage.join(output, CHECKPOINT_DIR)
    storage.delete_tree(checkpoint)
    storage.create_dir(checkpoint)
    state = state_of(manifest_ids(runs[0]), *shards[0])
    pending = storage.join(output, PENDING_FILE)
    if 0 < state.num_pending < state.num_input_videos:
        storage.publish_filtered(pending, Run(runs[0]).manifest_file, VIDEO_ID, finished_ids)
    elif storage.exists(pending):
        storage.delete_file(pending)
    return state


def to_read(output: str, runs: Sequence[str]) -> str:
    """Location of the manifest from which a job reads the videos that are still to be done in `runs`. Call after
    `reconcile`."""
    pending = storage.join(output, PENDING_FILE)
    return pending if storage.exists(pending) else Run(runs[0]).manifest_file


def _read_shards(run: str) -> tuple[Shards, Shards]:
    """The ok rows and the quarantine rows (rejected videos) of a run directory. Raises ConfigError if a file cannot be
    read."""
    problems: list[str] = []
    shards = (
        Shards.read(Run(run).shards(), [], None, problems),
        Shards.read(Run(run).quarantine_shards(), ["reason"], None, problems),
    )
    if problems:
        raise ConfigError(f"--output {run}: {problems[0]}; remove it to have its videos done again")
    return shards


def _finished(shards: Sequence[tuple[Shards, Shards]]) -> pa.Array:
    """Ids of the videos that are done or rejected in every run directory of a job, each id once.

    `shards` holds the rows of done and of rejected videos for each run directory.
    """
    first, *others = [pa.concat_arrays([ok.ids, rejected.ids]) for ok, rejected in shards]
    for other in others:
        first = within(first, other)
    return first.unique()


def _drop_surplus(run: str, surplus_ids: pa.Array, finished_ids: pa.Array) -> None:
    """Remove the rows of the videos `surplus_ids`, which have too many rows or are not finished, from the result files
    of a run directory.

    One row, the first, stays for each of these videos that is also in `finished_ids`.
    """
    surplus = set(surplus_ids.to_pylist())
    wanted_once = set(within(surplus_ids, finished_ids).to_pylist())
    for path in Run(run).shards() + Run(run).quarantine_shards():
        is_kept = []
        for video_id in storage.read_table(path, [VIDEO_ID])[VIDEO_ID].to_pylist():
            is_kept.append(video_id not in surplus or video_id in wanted_once)
            wanted_once.discard(video_id)
        _keep_rows(path, pa.array(is_kept, pa.bool_()))


def _trim_segments(run: str) -> None:
    """Remove repeated segments (time spans of a video), and segments whose video is not in the result file of the same
    name."""
    shards = {file_name(path): path for path in Run(run).shards()}
    for path in Run(run).segment_shards():
        shard = shards.get(file_name(path))
        videos = set(storage.read_table(shard, [VIDEO_ID])[VIDEO_ID].to_pylist()) if shard is not None else set()
        previous: set[tuple[str, int]] = set()
        is_kept = []
        rows = storage.read_table(path, [VIDEO_ID, "segment_index"])
        for segment in zip(rows[VIDEO_ID].to_pylist(), rows["segment_index"].to_pylist(), strict=True):
            is_kept.append(segment[0] in videos and segment not in previous)
            previous.add(segment)
        _keep_rows(path, pa.array(is_kept, pa.bool_()))


def drop(run: str, videos: pa.Array) -> None:
    """Remove the ok rows of `videos` (ids) from a run directory, so that these videos will be processed again."""
    for path in Run(run).shards():
        _keep_rows(path, pc.invert(pc.is_in(storage.read_table(path, [VIDEO_ID])[VIDEO_ID], videos)))


def let_go(run: str, videos: pa.Array) -> None:
    """Remove all rows of `videos` (ids), ok and quarantined, from a run directory."""
    for path in Run(run).shards() + Run(run).quarantine_shards():
        _keep_rows(path, pc.invert(pc.is_in(storage.read_table(path, [VIDEO_ID])[VIDEO_ID], videos)))


def _keep_rows(path: str, is_kept: pa.Array) -> None:
    """Replace a Parquet file by one with only the rows for which `is_kept` is True. If no row is left, the file is
    deleted."""
    if pc.all(is_kept).as_py() is not False:
        return
    rows = storage.read_table(path).filter(is_kept)
    if rows.num_rows:
        storage.publish_table(path, rows)
    else:
        storage.delete_file(path)


def quarantined_for(run: str, reasons: frozenset[str]) -> int:
    """Number of videos in a run directory that were rejected for one of the `reasons`."""
    tables = storage.iter_tables(Run(run).quarantine_shards(), ["reason"])
    return sum(
        pc.sum(pc.is_in(table["reason"], pa.array(sorted(reasons), pa.string()))).as_py() or 0 for table in tables
    )


def release(output: str, runs: Sequence[str], reasons: frozenset[str]) -> None:
    """Remove the videos that were rejected for one of the `reasons` from the quarantine (list of rejected videos) of
    one job's run directories `runs`, so that they will be processed again.

    Their numbers of processing attempts are stored in `output` first, so that a kill in between loses no count.
    """
    for path in [path for run in runs for path in Run(run).quarantine_shards()] if reasons else []:
        table = storage.read_table(path)
        is_released = pc.is_in(table["reason"], pa.array(sorted(reasons), pa.string()))
        attempts = {**read_attempts(output), **_attempts(table.filter(is_released))}
        if pc.any(is_released).as_py():
            columns = {VIDEO_ID: pa.array(list(attempts)), "attempts": pa.array(list(attempts.values()), pa.int32())}
            storage.publish_table(storage.join(output, ATTEMPTS_FILE), pa.table(columns))
            _keep_rows(path, pc.invert(is_released))


def read_attempts(output: str) -> dict[str, int]:
    """For each video that was taken out of quarantine (the rejected videos) to be tried again: its number of earlier
    processing attempts, by video id."""
    path = storage.join(output, ATTEMPTS_FILE)
    return _attempts(storage.read_table(path)) if storage.exists(path) else {}


def _attempts(table: pa.Table) -> dict[str, int]:
    """The `attempts` column of a table as a dictionary with the video ids as keys."""
    return dict(zip(table[VIDEO_ID].to_pylist(), table["attempts"].to_pylist(), strict=True))
