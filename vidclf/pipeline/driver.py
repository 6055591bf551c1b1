"""The main loop of a pipeline job: run the pipeline until no video is left to do, then write the summaries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from vidclf import storage
from vidclf.config import PipelineConfig
from vidclf.errors import RunStopped
from vidclf.pipeline.graph import run_pipeline
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.pools import check_devices
from vidclf.pipeline.run_directory import begin_run, check_run, would_delete, would_process
from vidclf.runs import lease, reconcile
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
    check_run(config, manifest, job)
    if config.dry_run:
        num_videos = would_process(config, manifest, job)
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
