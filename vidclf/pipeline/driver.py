"""The course of a pipeline job: begin its run, run the pipeline until no video is left, write the summaries."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from vidclf import schema, storage
from vidclf.archive.limit import limited
from vidclf.config import PipelineConfig
from vidclf.errors import RunStopped
from vidclf.pipeline.graph import run_pipeline
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.pools import check_devices
from vidclf.pipeline.run_directory import (
    check_run,
    job_outputs,
    stale_ids,
    would_delete,
    would_process,
)
from vidclf.runs import content_checks, lease, outputs, reconcile, relocated
from vidclf.runs.layout import Run
from vidclf.runs.state import RunState, locations_of
from vidclf.runs.summary import Performance, stopped_text, summarize
from vidclf.shortage import shortage

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
        manifest, text = limited(manifest, config.limit)
        print(text, file=sys.stderr, end="\n" if text else "")
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
        location = target.run(config.output)
        summaries[location].update(target.stated)
        if target.conclude is not None:
            summaries[location].update(target.conclude(location))
    lease.guard(config.output).check()
    for location, summary in summaries.items():
        storage.publish_json(Run(location).summary_file, summary)
    return summaries


def check_manifest(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> None:
    """Raise ConfigError if `manifest` lacks videos of a run to continue, unless `--drop-removed` lets them go.

    Labels, sources, splits and locations may differ: the newest manifest holds.
    """
    for run in job.runs(config.output):
        if Run(run).exists() and not config.overwrite:
            relocated.check_removed(run, manifest, drops_removed=config.drop_removed)


def _let_go(config: PipelineConfig, manifest: pa.Table, runs: list[str]) -> None:
    """Remove the rows that the newer `manifest` makes void from the `runs` that exist, before it replaces theirs.

    These are the rows of removed videos, and of videos whose file at a new location is not the one that was decoded.
    """
    num_removed = num_replaced = 0
    for run in runs:
        if not Run(run).exists():
            continue
        before = storage.read_table(Run(run).manifest_file)
        if before.equals(manifest):
            continue
        replaced = relocated.replaced_videos(run, manifest)
        removed = relocated.removed_videos(run, manifest)[schema.VIDEO_ID].to_pylist()
        if Run(run).is_finished():
            storage.delete_file(Run(run).summary_file)  # its counts are those of the earlier manifest
        if replaced or removed:
            reconcile.let_go(run, pa.array([*replaced, *removed], pa.string()))
        num_removed, num_replaced = max(num_removed, len(removed)), max(num_replaced, len(replaced))
    if num_removed:
        print(f"{config.output}: {num_removed} removed videos were let go (--drop-removed)", file=sys.stderr)
    if num_replaced:
        print(f"{config.output}: {num_replaced} moved videos have other content and are done again", file=sys.stderr)


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
    _let_go(config, manifest, runs)
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
                f"one {locations_of(runs[0], resized[:1])[0]}); --redo-stale does them again",
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
            lack = shortage(error)
            if lack is None:
                raise
            raise RunStopped(stopped_text(config.output, runs, f"{lack.what}; {lack.remedy}")) from None
        state = reconcile.reconcile(config.output, runs)
        if state.num_pending == num_pending:
            raise RunStopped(stopped_text(config.output, runs, "the pipeline ended without its videos"))
    return state, performance
