"""State of a run directory: its ok, quarantined (rejected) and pending videos, counted from its files.

A run directory holds

- `manifest.parquet`: the videos to process, one row each,
- `part-*.parquet` (the ok shards): the result rows of the videos that are done (ok),
- `quarantine/part-*.parquet`: the rejected videos, each with its reason,
- `segments/part-*.parquet`: the segments (time spans) of the videos that are done (classification with segments only),
- `run_identity.json`: how the rows are made,
- `summary.json`: counts and rates, present only after the job has ended.

A video of the manifest is ok, quarantined or pending. Only the files say which: no database, no log, no checkpoint.

Exactly-once contract: when a job has ended, every video of the manifest has exactly one row, either in the ok shards or
in the quarantine. Tasks may write a row twice or not at all while machines fail; `vidclf/runs/reconcile.py` repairs
that before a job continues, and `vidclf/runs/audit.py` proves the result.

Ids stay in Arrow arrays throughout: 40 bytes per video, where Python sets take 200.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.runs.layout import Run
from vidclf.schema import VIDEO_ID


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Number of videos of a run directory by state. `num_input_videos = num_ok + num_quarantined + num_pending`."""

    num_input_videos: int
    """videos in the manifest, each counted once"""
    num_ok: int
    """videos with a result row"""
    num_quarantined: int
    """rejected videos: those with a row in `quarantine/` and no result row"""
    num_pending: int
    """videos in the manifest that are still to be done: without a result row and without a row in `quarantine/`"""
    reasons: dict[str, int]
    """number of rejected videos by reject reason"""


def read_state(run: str) -> RunState:
    """Count the ok, quarantined (rejected) and pending videos of a run directory. Raises ConfigError if a result file
    cannot be read."""
    return state_of(manifest_ids(run), *_read_shards(run))


def check_finished(run: str, flag: str, job: str) -> RunState:
    """Check that no video of a run directory is pending and that every video has one row, and return the numbers of its
    videos by state.

    Otherwise raises ConfigError. Its message names the directory by the command-line flag `flag` (such as `--features`)
    and, for pending videos, advises to run `job` (such as `jobs/extract.py`) again.
    """
    ok, rejected = _read_shards(run)
    state = state_of(manifest_ids(run), ok, rejected)
    if state.num_pending:
        raise ConfigError(
            f"{flag} {run}: {counted(state.num_pending, 'video is', 'videos are')} pending; run {job} again"
        )
    _check_unique(run, flag, ok, rejected)
    return state


def check_unique_rows(run: str, flag: str) -> None:
    """Raise ConfigError if a video has several rows in a run directory, ok or quarantined. That happens if two jobs
    write at the same time."""
    _check_unique(run, flag, *_read_shards(run))


def _check_unique(run: str, flag: str, ok: Shards, rejected: Shards) -> None:
    """Raise ConfigError if a video occurs several times in the rows of done (`ok`) and `rejected` videos together.

    `run` and `flag` are for the message.
    """
    repeated_ids = repeated(pa.concat_arrays([ok.ids, rejected.ids]))
    if len(repeated_ids):
        example = locations_of(run, [min(repeated_ids.to_pylist())])[0]
        raise ConfigError(
            f"{flag} {run}: every video must have one row, {len(repeated_ids)} have several (for example "
            f"{example}); `jobs/audit.py --run {run}` names them. Submit the job that wrote the "
            "run again: it removes the additional rows"
        )


def manifest_ids(run: str) -> pa.Array:
    """The video ids in the manifest of a run directory, in the order of its rows."""
    return one_array([storage.read_table(Run(run).manifest_file, [VIDEO_ID])])


def rejected_ids(run: str) -> list[str]:
    """The ids of the rejected videos in the quarantine of a run directory."""
    ids: list[str] = Shards.read(Run(run).quarantine_shards()).ids.to_pylist()
    return ids


def locations_of(run: str, video_ids: Sequence[str]) -> list[str]:
    """The location of each of a few videos in the manifest of a run directory, without credentials, for messages.

    A video that the manifest does not hold is named by its id, and every video if there is no manifest.
    """
    if not storage.exists(Run(run).manifest_file):
        return list(video_ids)
    columns = [VIDEO_ID, "video_uri"]
    manifest = storage.read_table(Run(run).manifest_file, columns)
    rows = manifest.filter(pc.is_in(manifest[VIDEO_ID], pa.array(video_ids, pa.string())))
    location = dict(zip(rows[VIDEO_ID].to_pylist(), rows["video_uri"].to_pylist(), strict=True))
    return [masked(location[video_id]) if video_id in location else video_id for video_id in video_ids]


def rows_of(run: str, columns: list[str]) -> pa.Table:
    """The given `columns` of the result rows of all ok videos in a run directory, as one table.

    Raises OSError or ArrowInvalid if a result file cannot be read.
    """
    tables = []
    for _, shard in storage.read_all(Run(run).shards(), columns):
        if isinstance(shard, Exception):
            raise shard
        tables.append(shard.table)
    return pa.concat_tables(tables) if tables else schema.features(1).empty_table().select(columns)


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The rows of several shards (Parquet files): the video ids and some other columns. Unreadable shards may be left
    out."""

    tables: list[pa.Table]
    """one table per file that could be read"""

    @classmethod
    def read(
        cls,
        paths: list[str],
        columns: Iterable[str] = (),
        types: dict[str, str] | None = None,
        differences: list[str] | None = None,
    ) -> Shards:
        """Read the video ids and `columns` of the Parquet files at `paths`.

        `types` maps each column that a file must have to its Arrow type; None skips that comparison. Sentences about
        unreadable files and other columns or types are appended to `differences`. If `differences` is None, the first
        such problem raises ConfigError.
        """
        problems: list[str] = []
        tables = []
        for path, shard in storage.read_all(paths, [VIDEO_ID, *columns]):
            if isinstance(shard, Exception):
                problems.append(f"shard {path} cannot be read: {shard}")
                continue
            tables.append(shard.table)
            if types is not None and shard.types != types:
                names = sorted(shard.types.keys() | types.keys())
                wrong = [
                    f"{name} is {shard.types.get(name)}, not {types.get(name)}"
                    for name in names
                    if shard.types.get(name) != types.get(name)
                ]
                problems.append(f"shard {path} has other columns than the run: {'; '.join(wrong)}")
        if differences is not None:
            differences += problems
        elif problems:
            raise ConfigError(problems[0])
        return cls(tables=tables)

    @property
    def ids(self) -> pa.Array:
        """The video ids of all rows as one array; an id with several rows is repeated."""
        return one_array(self.tables)

    def counts(self, column: str) -> dict[str, int]:
        """Number of rows for each value of a text column, sorted by value."""
        entries = pc.value_counts(one_array(self.tables, column)).to_pylist()
        return dict(sorted((entry["values"], entry["counts"]) for entry in entries))


def _read_shards(run: str) -> tuple[Shards, Shards]:
    """The ok rows and the quarantine rows (rejected videos) of a run directory. Raises ConfigError if a file cannot be
    read."""
    return Shards.read(Run(run).shards()), Shards.read(Run(run).quarantine_shards(), ["reason"])


def state_of(manifest: pa.Array, ok: Shards, rejected: Shards) -> RunState:
    """Count videos by state from the video ids of the `manifest`, the rows of done videos (`ok`) and the rows of
    `rejected` videos.

    A video with rows of both kinds counts as ok. Rows of videos that are not in the manifest do not count.
    """
    manifest = manifest.unique()
    num_ok = len(within(manifest, ok.ids))
    num_quarantined = len(without(within(manifest, rejected.ids), ok.ids))
    return RunState(
        num_input_videos=len(manifest),
        num_ok=num_ok,
        num_quarantined=num_quarantined,
        num_pending=len(manifest) - num_ok - num_quarantined,
        reasons=rejected.counts("reason"),
    )


def one_array(tables: Sequence[pa.Table], column: str = VIDEO_ID) -> pa.Array:
    """One text column of several tables as a single array of strings."""
    chunks = [chunk for table in tables for chunk in table[column].chunks]
    # Shards may differ in how strings are encoded, and an empty list has no type.
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in chunks]) if chunks else pa.array([], pa.string())


def within(ids: pa.Array, others: pa.Array) -> pa.Array:
    """The `ids` that are also in `others`."""
    return ids.filter(pc.is_in(ids, others))


def without(ids: pa.Array, others: pa.Array) -> pa.Array:
    """The `ids` that are not in `others`."""
    return ids.filter(pc.invert(pc.is_in(ids, others)))


def repeated(ids: pa.Array) -> pa.Array:
    """The ids that occur more than once in `ids`, each listed once."""
    counts = pc.value_counts(ids)
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))
