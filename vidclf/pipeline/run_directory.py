"""Checks of a job's output directory, which must be free or hold a run of the same job. Nothing is written here.

A run is an output directory with results of one job.
"""

from __future__ import annotations

from vidclf import storage
from vidclf.config import PipelineConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec, specs_of
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.runs import content_checks, output_allowlist, outputs, reconcile
from vidclf.runs.layout import Run
from vidclf.runs.output_allowlist import Kind
from vidclf.runs.state import manifest_ids


def check_run(config: PipelineConfig, job: PipelineJob) -> None:
    """Raise ConfigError unless the output directory is free or holds a run of this same job, finished or not.

    A run is an output directory with results. Its videos are not compared here (`driver.check_manifest`).
    `--overwrite` makes room for another job, but never deletes files that no job wrote.
    """
    for kind, flag, location in job_outputs(config, job):
        outputs.check(kind, flag, location, overwrite=config.overwrite)
    apart = [target.directory for target in job.targets if target.directory is not None]
    # A directory without a manifest does not count: its job was killed before it had begun.
    begun = [run for run in [*_possible_runs(config.output), *apart] if Run(run).exists()]
    if config.overwrite or not begun:
        return
    for run in begun:
        if run not in job.runs(config.output):
            reason = f"holds a run in {run}, which this job would not fill"
            remedy = f"name the same backbones as before, or {outputs.remedy(_kind(job.targets[0]), config.output)}"
            raise _foreign(config.output, reason, remedy)
    for target in job.targets:
        run = target.run(config.output)
        if run in begun:
            difference = _identity_difference(target, run)
            if difference is not None:
                raise foreign_run(target, run, difference)
        elif any(Run(other).shards() for other in begun):
            reason = f"of this job's runs only {', '.join(begun)} holds videos, and {run} none"
            remedy = f"the runs of a job grow together, {outputs.remedy(_kind(target), config.output)}"
            raise _foreign(config.output, reason, remedy)


def foreign_run(target: RunSpec, run: str, difference: str) -> ConfigError:
    """Return the error for the run at `run`, which differs from what the job would write there as `target`."""
    return _foreign(run, difference, outputs.remedy(_kind(target), run))


def _foreign(location: str, reason: str, remedy: str) -> ConfigError:
    """Return the error for an output directory with results of another job, which this job must not continue.

    `reason` says what differs, `remedy` what the user can do.
    """
    return ConfigError(f"--output {location}: {reason}; {remedy}")


def _kind(target: RunSpec) -> Kind:
    return output_allowlist.FEATURES if target.ensemble_id is None else output_allowlist.PREDICTIONS


def job_outputs(config: PipelineConfig, job: PipelineJob) -> list[tuple[Kind, str, str]]:
    """Return the directories that a job writes to, each as (type of output, flag that names it, location).

    The type is features or predictions.
    """
    apart = [("--save-features", target, target.directory) for target in job.targets if target.directory]
    inside = [("--output", target, config.output) for target in job.targets if not target.directory][:1]
    return [(_kind(target), flag, location) for flag, target, location in [*inside, *apart]]


def _possible_runs(output: str) -> list[str]:
    """Return the places in `output` where runs (directories of results) may be.

    They are `output` itself and the directories in it that are named after a backbone.
    """
    return [output, *(path for path in storage.list_dirs(output) if output_allowlist.is_backbone(_name(path)))]


def _name(path: str) -> str:
    return path.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]


def _identity_difference(target: RunSpec, run: str) -> str | None:
    """Return a text with the first setting in which an existing run and the new job differ; None if all are equal.

    `run`: location of the existing output directory. `target`: what the new job would write there.
    """
    identity = Run(run).identity()
    saved_specs = specs_of(run, identity)
    saved_key, key = ("+".join(spec.key for spec in specs) for specs in (saved_specs, target.specs))
    if saved_key != key:
        difference = _spec_difference(saved_specs, target.specs)
        return f"holds a run of feature key {saved_key}, this job's is {key} ({difference})"
    if identity["ensemble_id"] != target.ensemble_id:
        return f"holds a run of ensemble {identity['ensemble_id']}, this job's is {target.ensemble_id}"
    if identity.get("settings", {}) != target.settings:
        return f"holds a run with {identity.get('settings')}, this job's are {target.settings}"
    if identity["columns"] != target.identity()["columns"]:
        return "holds a run of another version of this software, whose rows have other columns"
    return None


def _spec_difference(saved_specs: list[FeatureSpec], job_specs: list[FeatureSpec]) -> str:
    """Return a text with the settings in which the backbones of an existing run and of a new job differ.

    If the backbones themselves are different, the text holds their names.
    """
    saved_names, job_names = ([spec.backbone for spec in specs] for specs in (saved_specs, job_specs))
    if saved_names != job_names:
        return f"backbones: {','.join(saved_names)} != {','.join(job_names)}"
    pairs = zip(saved_specs, job_specs, strict=True)
    return "; ".join(saved.differences(spec) for saved, spec in pairs if saved != spec)


def would_process(config: PipelineConfig, num_videos: int, job: PipelineJob) -> int:
    """Return how many of its `num_videos` videos a job that `check_run` accepts has left to do, for a dry run."""
    runs = job.runs(config.output)
    if config.overwrite or not all(Run(run).exists() for run in runs):
        return num_videos
    num_new = num_videos - len(manifest_ids(runs[0]))
    num_stale = len(stale_ids(runs)) if config.redo_stale else 0
    num_retried = reconcile.quarantined_for(runs[0], config.retried_reasons())
    return num_new + num_stale + reconcile.unfinished(runs) + num_retried


def would_delete(config: PipelineConfig, job: PipelineJob) -> str:
    """Return a text with the files that a job with `--overwrite` would delete, one per line, for a dry run."""
    lines = [outputs.would_delete(kind, location) for kind, _, location in job_outputs(config, job)]
    return "".join(f"{line}\n" for line in lines if line)


def stale_ids(runs: list[str]) -> list[str]:
    """Return the ids of finished videos whose file has changed since it was decoded, for the runs of one job."""
    return content_checks.stale_videos(runs[0])[0]
