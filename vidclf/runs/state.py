"""State of a run: which videos are ok, quarantined or pending, read from its shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.errors import ConfigError
from vidclf.runs import layout
from vidclf.runs.layout import MANIFEST_FILE, part_files, quarantine_files
from vidclf.schema import VIDEO_ID


def rows_of(run: str, columns: list[str]) -> pa.Table:
    """Some columns of all ok rows. Raises what a shard that cannot be read raises."""
    tables = []
    for _, shard in storage.read_all(layout.part_files(run), columns):
        if isinstance(shard, Exception):
            raise shard
        tables.append(shard.table)
    return pa.concat_tables(tables) if tables else schema.features(1).empty_table().select(columns)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where the videos of a run stand. `num_input_videos = num_ok + num_quarantined + num_pending`."""

    num_input_videos: int
    num_ok: int
    num_quarantined: int
    num_pending: int
    reasons: dict[str, int]
    """quarantined videos by reject reason"""


def asked_ids(run: str) -> pa.Array:
    """The ids of the run's manifest."""
    return one_array([storage.read_table(storage.join(run, MANIFEST_FILE), [VIDEO_ID])])


def read_state(run: str) -> RunState:
    """Count a run's videos by state; Raises ConfigError for a shard that cannot be read."""
    return state_of(asked_ids(run), Shards.read(part_files(run)), Shards.read(quarantine_files(run), ["reason"]))


def refuse_repeated(run: str, flag: str) -> None:
    """ConfigError where a video has several rows in a run, done or quarantined: two jobs at once have written it."""
    twice = repeated(pa.concat_arrays([Shards.read(part_files(run)).ids, Shards.read(quarantine_files(run)).ids]))
    if len(twice):
        raise ConfigError(
            f"{flag} {run}: every video must have one row, {len(twice)} have several (for one "
            f"{min(twice.to_pylist())}); `jobs/audit.py --run {run}` names them, and the job that wrote the run, "
            "submitted again, removes the second rows"
        )


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Some columns of some shards, of those that can be read."""

    tables: list[pa.Table]

    @classmethod
    def read(
        cls,
        paths: list[str],
        columns: Iterable[str] = (),
        types: dict[str, str] | None = None,
        differences: list[str] | None = None,
    ) -> Shards:
        """Ids and `columns`. A shard that cannot be read, or whose columns are not `types`, is a
        difference; without a list for these it raises ConfigError."""
        found: list[str] = []
        tables = []
        for path, shard in storage.read_all(paths, [VIDEO_ID, *columns]):
            if isinstance(shard, Exception):
                found.append(f"shard {path} cannot be read: {shard}")
                continue
            tables.append(shard.table)
            if types is not None and shard.types != types:
                names = sorted(shard.types.keys() | types.keys())
                odd = [
                    f"{n} is {shard.types.get(n)}, not {types.get(n)}"
                    for n in names
                    if shard.types.get(n) != types.get(n)
                ]
                found.append(f"shard {path} has other columns than the run: {'; '.join(odd)}")
        if differences is not None:
            differences += found
        elif found:
            raise ConfigError(found[0])
        return cls(tables=tables)

    @property
    def ids(self) -> pa.Array:
        return one_array(self.tables)

    def counts(self, column: str) -> dict[str, int]:
        counted = pc.value_counts(one_array(self.tables, column)).to_pylist()
        return dict(sorted((entry["values"], entry["counts"]) for entry in counted))


def state_of(asked: pa.Array, ok: Shards, rejected: Shards) -> RunState:
    asked = asked.unique()
    num_ok = len(within(asked, ok.ids))
    num_quarantined = len(without(within(asked, rejected.ids), ok.ids))
    return RunState(
        num_input_videos=len(asked),
        num_ok=num_ok,
        num_quarantined=num_quarantined,
        num_pending=len(asked) - num_ok - num_quarantined,
        reasons=rejected.counts("reason"),
    )


def one_array(tables: Sequence[pa.Table], column: str = VIDEO_ID) -> pa.Array:
    chunks = [chunk for table in tables for chunk in table[column].chunks]
    # Shards may differ in how strings are encoded, and an empty list has no type.
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in chunks]) if chunks else pa.array([], pa.string())


def within(ids: pa.Array, others: pa.Array) -> pa.Array:
    return ids.filter(pc.is_in(ids, others))


def without(ids: pa.Array, others: pa.Array) -> pa.Array:
    return ids.filter(pc.invert(pc.is_in(ids, others)))


def repeated(ids: pa.Array) -> pa.Array:
    counted = pc.value_counts(ids)
    return counted.field("values").filter(pc.greater(counted.field("counts"), 1))
