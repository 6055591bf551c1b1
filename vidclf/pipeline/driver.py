"""The course of a pipeline job: begin its run, run the pipeline until no video is left, write the summaries."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.config import PipelineConfig
from vidclf.errors import RunStopped
from vidclf.pipeline.graph import run_pipeline
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.pools import check_devices
from vidclf.pipeline.run_directory import (
    check_run,
    foreign_run,
    job_outputs,
    stale_ids,
    would_delete,
    would_process,
)
from vidclf.runs import content_checks, lease, outputs, reconcile
from vidclf.runs.layout import Run
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance, stopped_text, summarize

Pipeline = Callable[[PipelineConfig, PipelineJob, RunState], Performance]
"""Function that processes the pending (not finished) videos of a job once and writes their rows.

Its arguments are the configuration, the job, and the counts of finished and pending videos.
"""


def embed_videos(
    config: PipelineConfig, manifest: pa.Table, job: PipelineJob, pipeline: Pipeline = run_pipeline
) -> dict[str, dict[str, Any]] | None:
    """Process every video of `manifest` that the job's output directories lack, and write the summaries.

    `manifest`: the table of the videos. `pipeline`: the function that processes videos; another one than the default
    takes rows from elsewhere instead of decoding. Returns the summary of each run (output directory) by its location,
    also where nothing was left to do, or None after a dry run.

    Raises ConfigError before any work starts where an output directory belongs to another job. Raises RunStopped
    where the job ends with videos left.
    """
    started = time.monotonic()
    # Workers have other working directories, so the output's location must be absolute.
    config = replace(config, output=storage.canonical(config.output))
    runs = job.runs(config.output)
    if config.limit is not None:
        manifest = manifest.slice(0, config.limit)
    check_run(config, job)
    check_manifest(config, manifest, job)
    if config.dry_run:
        num_videos = would_process(config, manifest.num_rows, job)
        print(f"would process {num_videos} of {manifest.num_rows} videos into {', '.join(runs)}")
        if config.overwrite:
            print(would_delete(config, job), end="")
        return None
    check_devices(config, job)
    before = begin_run(config, manifest, job)
    del manifest
    if not before.num_pending and all(Run(run).is_finished() for run in runs):
        return {run: {**Run(run).summary(), "num_processed": 0} for run in runs}
    for run in map(Run, runs):
        if run.is_finished():
            storage.delete_file(run.summary_file)
    after, performance = _run_until_done(config, job, before, pipeline)
    summaries = {run: summarize(run, before, after, time.monotonic() - started, performance) for run in runs}
    for target in job.targets:
        summaries[target.run(config.output)].update(target.stated)
    lease.guard(config.output).check()
    for location, summary in summaries.items():
        storage.publish_json(Run(location).summary_file, summary)
    return summaries


def check_manifest(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> None:
    """Raise ConfigError if the output holds a run to continue whose videos contradict those of `manifest`."""
    for target, run in zip(job.targets, job.runs(config.output), strict=True):
        if Run(run).exists() and not config.overwrite:
            difference = _manifest_difference(run, manifest)
            if difference is not None:
                raise foreign_run(target, run, difference)


def _manifest_difference(run: str, manifest: pa.Table) -> str | None:
    """Return a text on how the videos of an existing run contradict those of a new job; None if they do not.

    `run`: location of the existing output directory. `manifest`: the new job's table of videos, which must hold at
    least the same rows. Compared are the video id and the columns that are copied into result rows. The location is
    not one of them: a list with renewed signatures names the same videos.
    """
    columns = [schema.VIDEO_ID, "label", "sublabel", "group", "split"]
    before = storage.read_table(Run(run).manifest_file, columns)
    if before.equals(manifest.select(columns)):
        return None
    index = pc.index_in(before[schema.VIDEO_ID], manifest[schema.VIDEO_ID].combine_chunks())
    is_missing = pc.is_null(index)
    if pc.any(is_missing).as_py():
        missing = before[schema.VIDEO_ID].filter(is_missing)
        return (
            f"was started with {len(missing)} videos that this manifest does not hold (for one {missing[0]}), and a "
            "run can grow but not shrink"
        )
    now = manifest.select(columns).take(index)
    is_changed = pa.chunked_array([[False] * before.num_rows])
    for name in columns[1:]:
        is_equal = pc.or_(
            pc.fill_null(pc.equal(before[name], now[name]), False),
            pc.and_(pc.is_null(before[name]), pc.is_null(now[name])),
        )
        is_changed = pc.or_(is_changed, pc.invert(is_equal))
    if pc.any(is_changed).as_py():
        old_rows, new_row = before.filter(is_changed).to_pylist(), now.filter(is_changed).slice(0, 1).to_pylist()[0]
        return (
            f"label, group or split of {len(old_rows)} videos differ from those it was started with "
            f"(for one {old_rows[0]}, now {new_row})"
        )
    return None


def begin_run(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> RunState:
    """Create the job's runs (output directories), or prepare existing ones so that they can be continued.

    Returns the numbers of finished and pending videos. `--overwrite` deletes the old runs first.
    `--retry-quarantined` and `--redo-stale` make finished videos pending again: rejected ones, and those whose file
    has changed.
    """
    if config.overwrite:
        directories = job_outputs(config, job)
        for kind, flag, location in directories:
            outputs.check(kind, flag, location, overwrite=True)  # all outputs, before any is cleared
        for kind, flag, location in directories:
            outputs.clear(kind, flag, location)
    runs = job.runs(config.output)
    for target, run in zip(job.targets, runs, strict=True):
        storage.create_dir(run)
        storage.publish_json(Run(run).identity_file, target.identity())
        # The manifest last, because a directory with a manifest counts as a run.
        storage.publish_table(Run(run).manifest_file, manifest)
    reconcile.release(config.output, runs, config.retried_reasons())
    if config.redo_stale:
        stale = pa.array(stale_ids(runs), pa.string())
        for run in runs:
            reconcile.drop(run, stale)
    else:
        resized = content_checks.resized_videos(runs[0], manifest.select([schema.VIDEO_ID, "size_bytes"]))
        if resized:
            print(
                f"{config.output}: {len(resized)} finished videos have changed in size since they were decoded (for "
                f"one {resized[0]}); --redo-stale does them again",
                file=sys.stderr,
            )
    return reconcile.reconcile(config.output, runs)


def _run_until_done(
    config: PipelineConfig, job: PipelineJob, state: RunState, pipeline: Pipeline
) -> tuple[RunState, Performance]:
    """Call `pipeline` until no video is pending. Returns the final counts of videos, and the speed of the last call.

    More than one call is needed only where machines were lost. Their tasks may have written rows twice or not at all.
    The shards (Parquet files) show that afterwards, and those videos are done again.
    """
    runs = job.runs(config.output)
    performance = Performance(busy={})
    while state.num_pending:
        num_pending = state.num_pending
        try:
            performance = pipeline(config, job, state)
        except RunStopped as stopped:
            raise type(stopped)(stopped_text(config.output, runs, str(stopped))) from None
        except KeyboardInterrupt:
            raise RunStopped(stopped_text(config.output, runs, "stopped by Ctrl-C")) from None
        except Exception as error:
            if not storage.is_disk_full(error):
                raise
            reason = "the disk is full; free some of it"
            raise RunStopped(stopped_text(config.output, runs, reason)) from None
        state = reconcile.reconcile(config.output, runs)
        if state.num_pending == num_pending:
            raise RunStopped(stopped_text(config.output, runs, "the pipeline ended without its videos"))
    return state, performance
