"""The `export` job: checks a run, and writes its rows into a table, a labelling tool or another format; or writes an
ensemble in another format."""

from __future__ import annotations

from vidclf import preflight
from vidclf.config import ExportConfig
from vidclf.errors import ConfigError
from vidclf.export.change import Present, change
from vidclf.export.rows import RunRows
from vidclf.export.target import Target, check_columns
from vidclf.number_words import counted
from vidclf.runs import lease, output_allowlist, outputs
from vidclf.runs.audit import audit
from vidclf.runs.layout import MANIFEST_FILE, Run
from vidclf.runs.output_allowlist import Kind


def export(config: ExportConfig) -> str:
    """Write the selected rows of a run, or an ensemble, into the output in one commit, and return a line about it.

    For a run:

    1. The run must pass its audit.
    2. The rows that the output has are compared with those of the run.
    3. The difference is written in one commit. If there is none, nothing is written.

    Raises ConfigError if the run or the output does not allow the export.
    """
    preflight.check_outputs(config)
    if config.ensemble is not None:
        return _export_ensemble(config, config.ensemble)
    assert config.run is not None, "the configuration requires one of the two"
    run = config.run
    if not Run(run).exists():
        raise ConfigError(f"--run {run}: must be an output of jobs/classify.py, has no {MANIFEST_FILE}")
    _check_audited(run)
    rows = RunRows.read(run, only=config.only, extra=config.columns, is_of_segments=config.rows == "segments")
    target = target_of(config)
    existing = target.read()
    if existing is not None and existing.columns is not None:
        check_columns(config.output, existing.columns, rows.columns)
    present = existing.present if existing is not None else Present()
    difference = change(config.mode, rows.videos, rows.run_id, rows.ensemble_id, present, config.output)
    sorts = f" ({', '.join(config.only)})" if config.only else ""
    head = f"{config.output}: {counted(len(rows.videos), 'video')}{sorts} of run {rows.run_id}"
    if not rows.videos and not difference.removes_all:
        return f"{head}: nothing to export"
    if difference.is_nothing:
        return f"{head}: unchanged, they are there already"
    removed = "all earlier rows" if difference.removes_all else f"the earlier rows of {len(difference.removed)}"
    replaced = f", {removed} replaced" if difference.removes_all or difference.removed else ""
    if config.dry_run:
        return f"{head}: would write {len(difference.written)}{replaced}"
    if not config.is_catalog:
        lease.guard(config.output).check()
        kind = output_allowlist.EXPORTS[config.to]
        if isinstance(kind, Kind) and existing is None:
            outputs.begin(kind, config.output)
    target.write(rows, difference)
    line = f"{head}: {len(difference.written)} written{replaced}"
    if config.to == "label-studio":
        from vidclf.export.label_studio import interface

        line += f"\n  labelling interface: {interface(rows.classes)}"
    return line


def _export_ensemble(config: ExportConfig, ensemble: str) -> str:
    """Write an ensemble into the output, and return a line about it. The libraries of the formats are imported here."""
    if not config.dry_run:
        lease.guard(config.output).check()
    if config.to == "onnx":
        from vidclf.export import onnx_model

        return onnx_model.export_ensemble(ensemble, config.output, tta=config.tta, dry_run=config.dry_run)
    from vidclf.export import hub_directory

    return hub_directory.export_ensemble(ensemble, config.output, dry_run=config.dry_run)


def target_of(config: ExportConfig) -> Target:
    """The output of a configuration for the rows of a run. The library of its format is imported here."""
    if config.to == "csv":
        from vidclf.export.csv_file import CsvFile

        return CsvFile(config.output)
    if config.to == "delta":
        from vidclf.export.delta import DeltaOutput

        return DeltaOutput(config.output)
    if config.to == "iceberg":
        from vidclf.export.iceberg import IcebergOutput

        return IcebergOutput(config.output, config.table, is_catalog=config.is_catalog)
    if config.to == "lance":
        from vidclf.export.lance_dataset import LanceOutput

        return LanceOutput(config.output)
    if config.to == "fiftyone":
        from vidclf.export.fiftyone_dataset import FiftyOneDirectory

        return FiftyOneDirectory(config.output)
    if config.to == "label-studio":
        from vidclf.export.label_studio import LabelStudioTasks

        return LabelStudioTasks(config.output)
    from vidclf.export.activitynet import ActivityNetResults

    return ActivityNetResults(config.output)


def _check_audited(run: str) -> None:
    """Raise ConfigError if the audit of a run directory finds a difference."""
    differences = audit(run).differences
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise ConfigError(
            f"--run {run}: must pass its audit, which finds: {differences[0]}{more}; `jobs/audit.py --run {run}` names "
            "all. Submit the job that wrote the run again"
        )
