"""The state of every video of a run, read from its files alone; the audit that proves it.

A run directory holds `manifest.parquet` (what was asked), `part-*.parquet` (done),
`quarantine/part-*.parquet` (rejected, with the reason) and, when the job has ended,
`summary.json`. A video is ok, quarantined or pending, and only the files say which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.config import ConfigError
from vidclf.schema import VIDEO_ID, RejectReason

MANIFEST_FILE = "manifest.parquet"
SUMMARY_FILE = "summary.json"
QUARANTINE_DIR = "quarantine"
CHECKPOINT_DIR = "_checkpoint"
"""Ray Data's own record of finished videos, made from the shards when a job starts."""
ATTEMPTS_FILE = "_attempts.parquet"
"""How often videos that were taken out of quarantine had been tried."""


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


def is_run(run: str) -> bool:
    """Whether a job has been started in this directory."""
    return storage.exists(storage.join(run, MANIFEST_FILE))


def read_state(run: str) -> RunState:
    """Count a run's videos by state; one column of each shard is read."""
    return audit(run).state


def audit(run: str) -> Audit:
    """Compare a run's manifest with its shards, quarantine and summary.

    Differences reported: a video in no place or in several, a video nobody asked for, a reason
    outside the closed list, a shard that cannot be read, a leftover temporary file, a summary that
    is absent or counts otherwise. Raises ConfigError where `run` is not a run directory.
    """
    if not is_run(run):
        raise ConfigError(f"--run must be an output directory of extract or classify, got {run!r} (no {MANIFEST_FILE})")
    differences: list[str] = []
    asked: list[str] = storage.read_table(storage.join(run, MANIFEST_FILE), [VIDEO_ID])[VIDEO_ID].to_pylist()
    ok = Counter(_ids(part_files(run), differences))
    quarantined: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for table in _readable(quarantine_files(run), [VIDEO_ID, "reason"], differences):
        quarantined.update(table[VIDEO_ID].to_pylist())
        reasons.update(table["reason"].to_pylist())

    asked_ids = set(asked)
    pending = [video for video in asked_ids if video not in ok and video not in quarantined]
    repeated = {video for video, count in Counter(asked).items() if count > 1}
    _report(differences, repeated, "in the manifest more than once")
    _report(differences, pending, "pending: neither done nor quarantined")
    _report(differences, {v for v, n in ok.items() if n > 1}, "done more than once")
    _report(differences, {v for v, n in quarantined.items() if n > 1}, "quarantined more than once")
    _report(differences, ok.keys() & quarantined.keys(), "both done and quarantined")
    _report(differences, (ok.keys() | quarantined.keys()) - asked_ids, "done or quarantined but not in the manifest")
    known = {reason.value for reason in RejectReason}
    differences += [f"reject reason {reason!r} is not in the closed list" for reason in reasons if reason not in known]
    differences += [f"leftover temporary file {path}" for path in storage.list_files(run, ".tmp", recursive=True)]

    state = RunState(
        num_input_videos=len(asked_ids),
        num_ok=len(asked_ids & ok.keys()),
        num_quarantined=len((asked_ids & quarantined.keys()) - ok.keys()),
        num_pending=len(pending),
        reasons=dict(sorted(reasons.items())),
    )
    differences += _summary_differences(run, state)
    return Audit(state=state, differences=differences)


def quarantined_for(run: str, reasons: frozenset[str]) -> int:
    """How many videos are in quarantine for one of `reasons`."""
    tables = storage.iter_tables(quarantine_files(run), ["reason"])
    return sum(pc.sum(pc.is_in(table["reason"], pa.array(sorted(reasons)))).as_py() or 0 for table in tables)


def release(run: str, reasons: frozenset[str]) -> None:
    """Take the videos that were rejected for one of `reasons` out of quarantine: they are pending again.

    Their attempts are written down first, so that a kill in between loses no count.
    """
    for path in quarantine_files(run) if reasons else []:
        table = storage.read_table(path)
        is_released = pc.is_in(table["reason"], pa.array(sorted(reasons)))
        released = table.filter(is_released)
        if not released.num_rows:
            continue
        attempts = {**read_attempts(run), **_pairs(released)}
        columns = {VIDEO_ID: pa.array(list(attempts)), "attempts": pa.array(list(attempts.values()), pa.int32())}
        storage.publish_table(storage.join(run, ATTEMPTS_FILE), pa.table(columns))
        kept = table.filter(pc.invert(is_released))
        if kept.num_rows:
            storage.publish_table(path, kept)
        else:
            storage.delete_file(path)


def read_attempts(run: str) -> dict[str, int]:
    """How often each video that was taken out of quarantine had been tried by then."""
    path = storage.join(run, ATTEMPTS_FILE)
    return _pairs(storage.read_table(path)) if storage.exists(path) else {}


def _pairs(table: pa.Table) -> dict[str, int]:
    return dict(zip(table[VIDEO_ID].to_pylist(), table["attempts"].to_pylist(), strict=True))


def reconcile(run: str) -> None:
    """Make the record by which finished videos are skipped agree with the shards, which alone count,
    and remove what a killed write left half-written.

    Raises ConfigError for a shard that cannot be read: nobody knows what it held.
    """
    for path in storage.list_files(run, ".tmp", recursive=True):
        storage.delete_file(path)
    unreadable: list[str] = []
    done = list(_ids(part_files(run) + quarantine_files(run), unreadable))
    if unreadable:
        raise ConfigError(f"--output {run}: {unreadable[0]}; remove it to have its videos done again")
    checkpoint = storage.join(run, CHECKPOINT_DIR)
    storage.delete_tree(checkpoint)
    storage.create_dir(checkpoint)
    if done:
        storage.publish_table(storage.join(checkpoint, "done.parquet"), pa.table({VIDEO_ID: done}))


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


def _ids(paths: list[str], differences: list[str]) -> Iterable[str]:
    for table in _readable(paths, [VIDEO_ID], differences):
        yield from table[VIDEO_ID].to_pylist()


def _readable(paths: list[str], columns: list[str], differences: list[str]) -> Iterable[pa.Table]:
    for path in paths:
        try:
            yield storage.read_table(path, columns)
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            differences.append(f"shard {path} cannot be read: {error}")


def _report(differences: list[str], videos: Iterable[str], what: str) -> None:
    named = sorted(videos)
    if named:
        shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        differences.append(f"{len(named)} video(s) {what}: {shown}")


def summary_text(run: str, summary: dict[str, Any]) -> str:
    """A finished job's summary for people; says so where there was nothing left to do."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    counts = (
        f"{run}: {summary['num_input_videos']} videos, {summary['num_ok']} ok, "
        f"{summary['num_quarantined']} quarantined{f' ({reasons})' if reasons else ''}"
    )
    if summary["num_processed"] == 0:
        return f"{counts}; everything was done already"
    return f"{counts}; {summary['videos_per_s']:.2f} videos/s, bound by {summary['binding_resource']}"


def stopped_text(run: str, why: str) -> str:
    """Where a run that was stopped stands, from its files."""
    state = read_state(run)
    return (
        f"{why}; {run}: {state.num_ok} ok, {state.num_quarantined} quarantined, {state.num_pending} left of "
        f"{state.num_input_videos} videos; submit the same job again to continue"
    )
