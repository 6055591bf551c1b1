"""The driver's loop: run the pipeline until no video is pending, then write the summaries."""

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
from vidclf.runs import reconcile
from vidclf.runs.layout import Run
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance, stopped_text, summarize

Pipeline = Callable[[PipelineConfig, PipelineJob, RunState], Performance]
"""Does what a job has left to do."""


def embed_videos(
    config: PipelineConfig, manifest: pa.Table, job: PipelineJob, pipeline: Pipeline | None = None
) -> dict[str, dict[str, Any]] | None:
    """Embed every video of `manifest` that `config.output` does not hold yet, and write the summaries.

    Returns the summary of each run directory (also where nothing was left to do), or None after a
    dry run. `pipeline` is the one below, unless rows come from elsewhere than from videos. Raises
    ConfigError before any work starts where the directory belongs to another job, and RunStopped where it
    ends with videos left.
    """
    started = time.monotonic()
    # Workers have other working directories, so the output's location must not be relative.
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
    before = state = begin_run(config, manifest, job)
    del manifest
    if not state.num_pending and all(Run(run).is_finished() for run in runs):
        return {run: {**Run(run).summary(), "num_processed": 0} for run in runs}
    for run in map(Run, runs):
        if run.is_finished():
            storage.delete_file(run.summary_file)
    performance = Performance(busy={})
    # More than once only where machines were lost: what their tasks had written twice or not at all
    # is seen in the shards afterwards, and done again.
    while state.num_pending:
        num_pending = state.num_pending
        try:
            performance = (pipeline or run_pipeline)(config, job, state)
        except RunStopped as stopped:
            raise type(stopped)(stopped_text(config.output, runs, str(stopped))) from None
        except Exception as error:
            if not storage.is_disk_full(error):
                raise
            why = "the disk is full; free some of it"
            raise RunStopped(stopped_text(config.output, runs, why)) from None
        state = reconcile.reconcile(config.output, runs)
        if state.num_pending == num_pending:
            raise RunStopped(stopped_text(config.output, runs, "the pipeline ended without its videos"))
    summaries = {run: summarize(run, before, state, time.monotonic() - started, performance) for run in runs}
    for target in job.targets:
        summaries[target.run(config.output)].update(target.stated)
    for location, summary in summaries.items():
        storage.publish_json(Run(location).summary_file, summary)
    return summaries
