"""The state of every video of a run, read from its files alone; the audit that proves it.

A run directory holds `manifest.parquet` (what was asked), `part-*.parquet` (done),
`quarantine/part-*.parquet` (rejected, with the reason), `run_identity.json` (how) and, when the job
has ended, `summary.json`. A video is ok, quarantined or pending, and only the files say which.

Ids stay in Arrow arrays throughout: 40 bytes a video, where Python's sets take 200.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.config import ConfigError
from vidclf.schema import QUARANTINE, VIDEO_ID, RejectReason, column_types

MANIFEST_FILE = "manifest.parquet"
IDENTITY_FILE = "run_identity.json"
"""How a run's rows are made: the spec of each backbone's features, for predictions the ensemble; the columns."""
SUMMARY_FILE = "summary.json"
DUPLICATES_FILE = "duplicates.parquet"
"""Videos whose content is another one's; absent where there are none."""
QUARANTINE_DIR = "quarantine"
SEGMENTS_DIR = "segments"
"""The segments of a classification's videos: those of a shard are in the file of the same name."""

_CONSTANTS = ("feature_key", "ensemble_id")
"""Columns that hold what `run_identity.json` says, in every row."""


class RunStopped(BaseException):
    """A run was ended before its last video; what is done is kept, and resubmitting continues.

    Like KeyboardInterrupt no Exception, so that no library in between takes it for a failure.
    """


class ErrorBudgetExceeded(RunStopped):
    """Too many videos were rejected for single bad files to be the cause (`--max-error-rate`)."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where the videos of a run stand. `num_input_videos = num_ok + num_quarantined + num_pending`."""

    num_input_videos: int
    num_ok: int
    num_quarantined: int
    num_pending: int
    reasons: dict[str, int]
    """quarantined videos by reject reason"""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Outcome of an audit: the state, and every difference found (none: the numbers add up)."""

    state: RunState
    differences: list[str] = field(default_factory=list)


def part_files(run: str) -> list[str]:
    """The shards of a run's ok rows."""
    return [path for path in storage.list_files(run, ".parquet") if path.rsplit("/", 1)[-1].startswith("part-")]


def quarantine_files(run: str) -> list[str]:
    """The shards of a run's quarantine rows."""
    return part_files(storage.join(run, QUARANTINE_DIR))


def segment_files(run: str) -> list[str]:
    """The shards of a run's segments."""
    return part_files(storage.join(run, SEGMENTS_DIR))


def is_run(run: str) -> bool:
    """Whether a job has been started in this directory."""
    return storage.exists(storage.join(run, MANIFEST_FILE))


def runs_in(location: str) -> list[str]:
    """The run at `location`, or the runs in its directories (one a backbone).

    Raises ConfigError where there is none.
    """
    runs = [location] if is_run(location) else [path for path in storage.list_dirs(location) if is_run(path)]
    if not runs:
        raise ConfigError(
            f"--run must be an output directory of extract or classify, got {location!r} (no {MANIFEST_FILE})"
        )
    return runs


def asked_ids(run: str) -> pa.Array:
    """The ids of the run's manifest."""
    return one_array([storage.read_table(storage.join(run, MANIFEST_FILE), [VIDEO_ID])])


def read_state(run: str) -> RunState:
    """Count a run's videos by state; Raises ConfigError for a shard that cannot be read."""
    return state_of(asked_ids(run), Shards.read(part_files(run)), Shards.read(quarantine_files(run), ["reason"]))


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
    asked = asked_ids(run)
    ok = Shards.read(part_files(run), constants, identity.get("columns"), differences)
    in_quarantine = column_types(QUARANTINE)
    rejected = Shards.read(quarantine_files(run), ["reason"], in_quarantine, differences)
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


def _identity(run: str, differences: list[str]) -> dict[str, Any]:
    path = storage.join(run, IDENTITY_FILE)
    try:
        return dict(storage.read_json(path))
    except (OSError, ValueError) as error:
        differences.append(f"{IDENTITY_FILE} cannot be read: {error}")
        return {}


def _segment_differences(run: str, types: dict[str, str]) -> list[str]:
    """What is wrong with a run's segments: those of each shard are of its videos, of all of them, and once."""
    differences: list[str] = []
    shards = {path.rsplit("/", 1)[-1]: path for path in part_files(run)}
    segments = {path.rsplit("/", 1)[-1]: path for path in segment_files(run)}
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
    path = storage.join(run, SUMMARY_FILE)
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


def summary_text(run: str, summary: dict[str, Any]) -> str:
    """A finished job's summary for people; says so where there was nothing left to do."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    counts = (
        f"{run}: {summary['num_input_videos']} videos, {summary['num_ok']} ok, "
        f"{summary['num_quarantined']} quarantined{f' ({reasons})' if reasons else ''}"
    )
    if summary.get("num_duplicates"):
        across = summary["num_duplicates_across_splits"]
        counts += f", {summary['num_duplicates']} with the content of another"
        counts += f" ({across} of them in another split, see {DUPLICATES_FILE})" if across else ""
    if summary["num_processed"] == 0:
        return f"{counts}; everything was done already"
    return f"{counts}; {summary['videos_per_s']:.2f} videos/s, bound by {summary['binding_resource']}"


def stopped_text(output: str, runs: Sequence[str], why: str) -> str:
    """Where the runs of a job that was stopped stand, from their files."""
    states = [read_state(run) for run in runs]
    state = max(states, key=lambda state: state.num_pending)
    return (
        f"{why}; {output}: {state.num_ok} ok, {state.num_quarantined} quarantined, {state.num_pending} left of "
        f"{state.num_input_videos} videos; submit the same job again to continue"
    )
