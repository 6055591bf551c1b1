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
from vidclf.runs import content_checks, output_files, outputs, reconcile
from vidclf.runs.layout import Run
from vidclf.runs.output_files import Kind
from vidclf.runs.state import RunState, manifest_ids


def check_run(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> None:
    """ConfigError unless the output directory is free, or holds this very job's runs in part.

    `--overwrite` makes way for another job, but never deletes what no job wrote.
    """
    for kind, flag, location in _written(config, job):
        outputs.check(kind, flag, location, overwrite=config.overwrite)
    apart = [target.directory for target in job.targets if target.directory is not None]
    # Without a manifest yet, a job was killed before it had begun.
    begun = [run for run in [*_runs_there(config.output), *apart] if Run(run).exists()]
    if config.overwrite or not begun:
        return
    for run in begun:
        if run not in job.runs(config.output):
            raise ConfigError(
                f"--output {config.output}: holds a run in {run}, which this job would not fill; name the same "
                f"backbones as before, or {outputs.remedy(_kind(job.targets[0]), config.output)}"
            )
    for target in job.targets:
        if target.run(config.output) in begun:
            remedy = outputs.remedy(_kind(target), target.run(config.output))
            _check_target(target, target.run(config.output), manifest, remedy)
        elif any(Run(run).shards() for run in begun):
            raise ConfigError(
                f"--output {config.output}: of this job's runs only {', '.join(begun)} holds videos, and "
                f"{target.run(config.output)} none; the runs of a job grow together, "
                f"{outputs.remedy(_kind(target), config.output)}"
            )


def _kind(target: RunSpec) -> Kind:
    return output_files.FEATURES if target.ensemble_id is None else output_files.PREDICTIONS


def _written(config: PipelineConfig, job: PipelineJob) -> list[tuple[Kind, str, str]]:
    """The directories that a job writes into, each with its kind and the flag that names it."""
    apart = [("--save-features", target, target.directory) for target in job.targets if target.directory]
    inside = [("--output", target, config.output) for target in job.targets if not target.directory][:1]
    return [(_kind(target), flag, location) for flag, target, location in [*inside, *apart]]


def _runs_there(output: str) -> list[str]:
    """Where runs may be: the output itself and its directories for backbones."""
    return [output, *(path for path in storage.list_dirs(output) if _name(path) in output_files.BACKBONES)]


def _name(path: str) -> str:
    return path.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]


def _check_target(target: RunSpec, run: str, manifest: pa.Table, remedy: str) -> None:
    identity = Run(run).identity()
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
            f"{'+'.join(spec.key for spec in target.specs)} ({said}); {remedy}"
        )
    if identity["ensemble_id"] != target.ensemble_id:
        raise ConfigError(
            f"--output {run}: holds a run of ensemble {identity['ensemble_id']}, this job's is "
            f"{target.ensemble_id}; {remedy}"
        )
    if identity.get("settings", {}) != target.settings:
        raise ConfigError(
            f"--output {run}: holds a run with {identity.get('settings')}, this job's are {target.settings}; {remedy}"
        )
    if identity["columns"] != target.identity()["columns"]:
        raise ConfigError(
            f"--output {run}: holds a run of another version of this software, whose rows have other columns; {remedy}"
        )
    told = [schema.VIDEO_ID, "label", "sublabel", "group", "split"]
    before = storage.read_table(Run(run).manifest_file, told)
    if before.equals(manifest.select(told)):
        return
    place = pc.index_in(before[schema.VIDEO_ID], manifest[schema.VIDEO_ID].combine_chunks())
    is_gone = pc.is_null(place)
    if pc.any(is_gone).as_py():
        gone = before[schema.VIDEO_ID].filter(is_gone)
        raise ConfigError(
            f"--output {run}: was started with {len(gone)} videos that this manifest does not hold "
            f"(for one {gone[0]}); a run can grow but not shrink, {remedy}"
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
            f"(for one {was[0]}, now {is_[0]}); {remedy}"
        )


def would_process(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> int:
    """How many videos a job that `check_run` lets through has to do."""
    runs = job.runs(config.output)
    if config.overwrite or not all(Run(run).exists() for run in runs):
        return int(manifest.num_rows)
    new = manifest.num_rows - len(manifest_ids(runs[0]))
    stale = len(_stale(runs)) if config.redo_stale else 0
    return int(new) + stale + reconcile.unfinished(runs) + reconcile.quarantined_for(runs[0], config.retried_reasons())


def would_delete(config: PipelineConfig, job: PipelineJob) -> str:
    """The files that a job with `--overwrite` would delete, a line each."""
    lines = [outputs.would_delete(kind, location) for kind, _, location in _written(config, job)]
    return "".join(f"{line}\n" for line in lines if line)


def begin_run(config: PipelineConfig, manifest: pa.Table, job: PipelineJob) -> RunState:
    """Make the job's runs, or bring those that are there to a state from which they can be continued:
    which videos are done, and which are to be done again, is settled here."""
    if config.overwrite:
        written = _written(config, job)
        for kind, flag, location in written:
            outputs.check(kind, flag, location, overwrite=True)  # all of them before any is cleared
        for kind, flag, location in written:
            outputs.clear(kind, flag, location)
    runs = job.runs(config.output)
    for target, run in zip(job.targets, runs, strict=True):
        storage.create_dir(run)
        storage.publish_json(Run(run).identity_file, target.identity())
        # The manifest last: it is what makes the directory a run.
        storage.publish_table(Run(run).manifest_file, manifest)
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
