"""Start, resume or refuse a run directory."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.config import PipelineConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import specs_of
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.runs import content_checks, layout, reconcile
from vidclf.runs.layout import IDENTITY_FILE
from vidclf.runs.state import RunState, asked_ids


def check_run(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> None:
    """ConfigError unless the output directory is free, or holds this very job's runs in part.

    `--overwrite` makes way for another job, but never deletes a directory that no job wrote.
    """
    is_file = storage.exists(config.output) and not storage.is_dir(config.output)
    is_ours = not is_file and any(
        storage.exists(storage.join(run, IDENTITY_FILE)) for run in _runs_there(config.output)
    )
    if is_file or (not is_ours and storage.list_files(config.output, recursive=True)):
        raise ConfigError(
            f"--output {config.output}: must be empty or a run to continue or to overwrite (no {IDENTITY_FILE} in it)"
        )
    apart = [target.directory for target in job.targets if target.directory is not None]
    for run in apart:
        if storage.list_files(run, recursive=True) and not storage.exists(storage.join(run, IDENTITY_FILE)):
            raise ConfigError(f"--save-features {run}: must be empty or a run of this job (no {IDENTITY_FILE} in it)")
    # Without a manifest yet, a job was killed before it had begun.
    begun = [run for run in [*_runs_there(config.output), *apart] if layout.is_run(run)]
    if config.overwrite or not begun:
        return
    for run in begun:
        if run not in job.runs(config.output):
            raise ConfigError(
                f"--output {config.output}: holds a run in {run}, which this job would not fill; name the same "
                "backbones as before, or choose another directory or --overwrite"
            )
    for target in job.targets:
        if target.run(config.output) in begun:
            _check_target(target, target.run(config.output), manifest)
        elif any(layout.part_files(run) for run in begun):
            raise ConfigError(
                f"--output {config.output}: of this job's runs only {', '.join(begun)} holds videos, and "
                f"{target.run(config.output)} none; the runs of a job grow together, choose another directory or "
                "--overwrite"
            )


def _runs_there(output: str) -> list[str]:
    """Where runs may be: the output itself and its directories."""
    return [output, *storage.list_dirs(output)]


def _check_target(target: RunSpec, run: str, manifest: pa.Table) -> None:
    identity = storage.read_json(storage.join(run, IDENTITY_FILE))
    theirs = specs_of(run, identity)
    if theirs != target.specs:
        named = [[spec.backbone for spec in specs] for specs in (theirs, target.specs)]
        if named[0] == named[1]:
            pairs = zip(theirs, target.specs, strict=True)
            said = "; ".join(one.differences(other) for one, other in pairs if one != other)
        else:
            said = f"backbones: {','.join(named[0])} != {','.join(named[1])}"
        raise ConfigError(
            f"--output {run}: holds a run of feature key {'+'.join(spec.key for spec in theirs)}, this job's is "
            f"{'+'.join(spec.key for spec in target.specs)} ({said}); choose another directory or --overwrite"
        )
    if identity["ensemble_id"] != target.ensemble_id:
        raise ConfigError(
            f"--output {run}: holds a run of ensemble {identity['ensemble_id']}, this job's is "
            f"{target.ensemble_id}; choose another directory or --overwrite"
        )
    if identity.get("settings", {}) != target.settings:
        raise ConfigError(
            f"--output {run}: holds a run with {identity.get('settings')}, this job's are {target.settings}; "
            "choose another directory or --overwrite"
        )
    if identity["columns"] != target.identity()["columns"]:
        raise ConfigError(
            f"--output {run}: holds a run of another version of this software, whose rows have other columns; "
            "choose another directory or --overwrite"
        )
    told = [schema.VIDEO_ID, "label", "sublabel", "group", "split"]
    before = storage.read_table(storage.join(run, layout.MANIFEST_FILE), told)
    if before.equals(manifest.select(told)):
        return
    place = pc.index_in(before[schema.VIDEO_ID], manifest[schema.VIDEO_ID].combine_chunks())
    is_gone = pc.is_null(place)
    if pc.any(is_gone).as_py():
        gone = before[schema.VIDEO_ID].filter(is_gone)
        raise ConfigError(
            f"--output {run}: was started with {len(gone)} videos that this manifest does not hold "
            f"(for one {gone[0]}); a run can grow but not shrink, choose another directory or --overwrite"
        )
    now = manifest.select(told).take(place)
    is_changed = pa.chunked_array([[False] * before.num_rows])
    for name in told[1:]:
        is_equal = pc.or_(
            pc.fill_null(pc.equal(before[name], now[name]), False),
            pc.and_(pc.is_null(before[name]), pc.is_null(now[name])),
        )
        is_changed = pc.or_(is_changed, pc.invert(is_equal))
    if pc.any(is_changed).as_py():
        was, is_ = before.filter(is_changed).to_pylist(), now.filter(is_changed).slice(0, 1).to_pylist()
        raise ConfigError(
            f"--output {run}: label, group or split of {len(was)} videos differ from those it was started with "
            f"(for one {was[0]}, now {is_[0]}); choose another directory or --overwrite"
        )


def would_process(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> int:
    """How many videos a job that `check_run` lets through has to do."""
    runs = job.runs(config.output)
    if config.overwrite or not all(layout.is_run(run) for run in runs):
        return int(manifest.num_rows)
    new = manifest.num_rows - len(asked_ids(runs[0]))
    stale = len(_stale(runs)) if config.redo_stale else 0
    return int(new) + stale + reconcile.unfinished(runs) + reconcile.quarantined_for(runs[0], config.retried_reasons())


def begin_run(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> RunState:
    """Make the job's runs, or bring those that are there to a state from which they can be continued:
    which videos are done, and which are to be done again, is settled here."""
    if config.overwrite:
        for directory in [config.output, *(target.directory for target in job.targets if target.directory)]:
            storage.delete_tree(directory)
    runs = job.runs(config.output)
    for target, run in zip(job.targets, runs, strict=True):
        storage.create_dir(run)
        storage.publish_json(storage.join(run, IDENTITY_FILE), target.identity())
        # The manifest last: it is what makes the directory a run.
        storage.publish_table(storage.join(run, layout.MANIFEST_FILE), manifest)
    reconcile.release(config.output, runs, config.retried_reasons())
    if config.redo_stale:
        stale = pa.array(_stale(runs), pa.string())
        for run in runs:
            reconcile.drop(run, stale)
    else:
        resized = content_checks.resized_videos(runs[0], manifest)
        if resized:
            print(
                f"{config.output}: {len(resized)} finished videos are of another size than they were (for one "
                f"{resized[0]}); --redo-stale does them again",
                file=sys.stderr,
            )
    return reconcile.reconcile(config.output, runs)


def _stale(runs: list[str]) -> list[str]:
    return content_checks.stale_videos(runs[0])[0]
