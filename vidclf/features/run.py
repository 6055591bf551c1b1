"""The directory of an extraction or classification run: what it is of, and how far it is.

Shared by both jobs, and free of Ray: begin a run or continue it, refuse another one's directory,
summarize it from its files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import ledger, schema, storage
from vidclf.config import ConfigError, PipelineConfig
from vidclf.features.store import IDENTITY_FILE, FeatureSpec

Head = Callable[[pa.Table], pa.Table]
"""Turns a table of embedded videos (`schema.features`) into the rows to write, one for one."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingJob:
    """What to do with every video of a manifest."""

    spec: FeatureSpec
    weights: str
    state: dict[str, Any]
    """the backbone's state dict as arrays"""
    output_schema: pa.Schema
    make_head: Callable[[], Head] | None = None
    """called once in every CNN worker; None writes the features themselves"""
    ensemble_id: str | None = None
    classes: tuple[str, ...] = ()
    """the head's classes, in the order of its probabilities"""


def check_run(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> None:
    """ConfigError unless the output directory is free, or holds this very run in part.

    `--overwrite` makes way for another run, but never deletes a directory that no run wrote.
    """
    has_identity = storage.exists(storage.join(config.output, IDENTITY_FILE))
    is_file = storage.exists(config.output) and not storage.is_dir(config.output)
    if is_file or (not has_identity and storage.list_files(config.output, recursive=True)):
        raise ConfigError(
            f"--output {config.output}: must be empty or a run to continue or to overwrite (no {IDENTITY_FILE} in it)"
        )
    # Without a manifest yet, a job was killed before it had begun.
    if config.overwrite or not ledger.is_run(config.output):
        return
    identity = storage.read_json(storage.join(config.output, IDENTITY_FILE))
    theirs = FeatureSpec(**identity["feature_spec"])
    if theirs.key != job.spec.key:
        raise ConfigError(
            f"--output {config.output}: holds a run of feature key {theirs.key}, this job's is {job.spec.key} "
            f"({theirs.differences(job.spec)}); choose another directory or --overwrite"
        )
    if identity["ensemble_id"] != job.ensemble_id:
        raise ConfigError(
            f"--output {config.output}: holds a run of ensemble {identity['ensemble_id']}, this job's is "
            f"{job.ensemble_id}; choose another directory or --overwrite"
        )
    told = [schema.VIDEO_ID, "label", "sublabel", "group", "split"]
    before = storage.read_table(storage.join(config.output, ledger.MANIFEST_FILE), told)
    if before.equals(manifest.select(told)):
        return
    asked, now = _by_id(before), _by_id(manifest.select(told))
    changed = [video for video, row in asked.items() if video in now and now[video] != row]
    if changed:
        raise ConfigError(
            f"--output {config.output}: label, group or split of {len(changed)} videos differ from those it was "
            f"started with (for one {changed[0]}: {asked[changed[0]]}, now {now[changed[0]]}); choose another "
            "directory or --overwrite"
        )
    gone = asked.keys() - now.keys()
    if gone:
        raise ConfigError(
            f"--output {config.output}: was started with {len(gone)} videos that this manifest does not hold "
            f"(for one {min(gone)}); a run can grow but not shrink, choose another directory or --overwrite"
        )


def _by_id(rows: pa.Table) -> dict[str, tuple[str | None, ...]]:
    """The first column's values to the other columns'."""
    ids, *others = (rows[name].to_pylist() for name in rows.column_names)
    return dict(zip(ids, zip(*others, strict=True), strict=True))


def progress_so_far(config: PipelineConfig, manifest: pa.Table) -> ledger.RunState:
    num_videos = manifest.num_rows
    if config.overwrite or not ledger.is_run(config.output):
        return ledger.RunState(
            num_input_videos=num_videos, num_ok=0, num_quarantined=0, num_pending=num_videos, reasons={}
        )
    state = ledger.read_state(config.output)
    new = num_videos - state.num_input_videos
    return ledger.RunState(**{**vars(state), "num_input_videos": num_videos, "num_pending": state.num_pending + new})


def begin_run(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> None:
    if config.overwrite:
        storage.delete_tree(config.output)
    storage.create_dir(config.output)
    identity = {
        "feature_key": job.spec.key,
        "feature_spec": vars(job.spec),
        "weights": job.weights,
        "ensemble_id": job.ensemble_id,
        "classes": list(job.classes),
    }
    storage.publish_json(storage.join(config.output, IDENTITY_FILE), identity)
    # The manifest last: it is what makes the directory a run.
    storage.publish_table(storage.join(config.output, ledger.MANIFEST_FILE), manifest)
    ledger.release(config.output, config.retried_reasons())
    ledger.reconcile(config.output)


def summarize(output: str, before: ledger.RunState, elapsed_s: float, busy: dict[str, float]) -> dict[str, Any]:
    """Counts from the files; rates and busy shares from this submission's part of the work."""
    after = ledger.read_state(output)
    durations = storage.iter_tables(ledger.part_files(output), ["duration_s"])
    total_duration_s = sum(pc.sum(table["duration_s"]).as_py() or 0.0 for table in durations)
    processed = before.num_pending - after.num_pending
    ok_share = after.num_ok / max(after.num_ok + after.num_quarantined, 1)
    mean_duration_s = total_duration_s / max(after.num_ok, 1)
    videos_per_s = processed / elapsed_s
    return {
        **vars(after),
        "num_processed": processed,
        "total_video_duration_s": round(total_duration_s, 3),
        "pipeline_run_time_s": round(elapsed_s, 3),
        "videos_per_s": round(videos_per_s, 4),
        "video_hours_per_day": round(videos_per_s * ok_share * mean_duration_s * 24, 3),
        "busy_share": {name: round(share, 3) for name, share in busy.items()},
        "binding_resource": max(busy, key=lambda name: busy[name]) if busy else None,
    }
