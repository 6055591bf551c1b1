"""The `export` job: checks a run, and writes its rows into a table, a labelling tool or another format."""

from __future__ import annotations

from vidclf import preflight
from vidclf.config import ExportConfig
from vidclf.errors import ConfigError
from vidclf.export.change import Present, change
from vidclf.export.rows import RunRows
from vidclf.export.target import Target, check_columns
from vidclf.runs import lease, output_allowlist, outputs
from vidclf.runs.audit import audit
from vidclf.runs.layout import MANIFEST_FILE, Run
from vidclf.runs.output_allowlist import Kind


def export(config: ExportConfig) -> str:
    """Write the selected rows of a run into the output in one commit, and return a line about it.

    1. The run must pass its audit.
    2. The rows that the output has are compared with those of the run.
    3. The difference is written in one commit. If there is none, nothing is written.

    Raises ConfigError if the run or the output does not allow the export.
    """
    preflight.check_outputs(config)
    if not Run(config.run).exists():
        raise ConfigError(f"--run {config.run}: must be an output of jobs/classify.py, has no {MANIFEST_FILE}")
    _check_audited(config.run)
    rows = RunRows.read(config.run, only=config.only, extra=config.columns, is_of_segments=config.rows == "segments")
    target = target_of(config)
    existing = target.read()
    if existing is not None and existing.columns is not None:
        check_columns(config.output, existing.columns, rows.columns)
    present = existing.present if existing is not None else Present()
    difference = change(config.mode, rows.videos, rows.run_id, rows.ensemble_id, present, config.output)
    sorts = f" ({', '.join(config.only)})" if config.only else ""
    head = f"{config.output}: {len(rows.videos)} videos{sorts} of run {rows.run_id}"
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


def target_of(config: ExportConfig) -> Target:
    """The output of a configuration. The library of its format is imported here."""
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
