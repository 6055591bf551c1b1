"""Configuration of the job `export` (results of a classification in tables, labelling tools and other formats; an
ensemble as ONNX or as a directory for a hub)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidclf.config.fields import require
from vidclf.config.options import DryRunOptions, LeaseOptions

Target = Literal["csv", "delta", "iceberg", "lance", "fiftyone", "label-studio", "activitynet", "onnx", "hub-directory"]
"""Values of `--to`, the format of an export."""

OF_ENSEMBLES = ("onnx", "hub-directory")
"""Values of `--to` for which `--ensemble` names the input; for the others it is `--run`."""

Mode = Literal["append", "replace-by-video", "new-snapshot"]
"""Values of `--mode`, what happens to the rows that the output already has."""

FILE_ENDINGS = {"csv": ".csv", "label-studio": ".json", "activitynet": ".json", "onnx": ".onnx"}
"""Ending of the output's name, for the targets that are one file. The output of the others is a directory."""

SELECTIONS = ("abstained", "drifted", "label-next", "misclassified")
"""Values of `--only`, the sorts of videos that may be selected."""

COLUMNS = (
    *("attention", "pts_s", "is_black", "luma_mean", "sharpness", "is_near_duplicate"),
    *("member_probabilities", "view_probabilities"),
)
"""Values of `--columns`: columns of predictions with a list of numbers per video, which are left out by default."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LeaseOptions, DryRunOptions):
    """Copy the results of a classification into a table, a labelling tool or another format, or an ensemble into ONNX.

    The run must be finished and pass jobs/audit.py. All rows become visible at once, or none if the job is killed. A
    second export of the same run or ensemble changes nothing.
    """

    run: str | None = None
    """Directory with the predictions to export, as jobs/classify.py writes it. Required unless --ensemble is given.
    (default: none)"""
    ensemble: str | None = None
    """Directory with the ensemble to export, as jobs/train.py writes it, for --to onnx and hub-directory. (default:
    none)"""
    to: Target
    """Format of the output. delta, iceberg, lance: a table of the format, which needs the extra of the same name.
    fiftyone: a directory that FiftyOne imports. label-studio: a JSON file of tasks with predictions. activitynet: a
    JSON file of results. csv: a CSV file. onnx: one file with all members of an ensemble, their average and its
    calibration. hub-directory: the files of an ensemble that classify videos, with its model card."""
    output: str
    """Location of the output: a file with the ending .csv, .json or .onnx for csv, label-studio, activitynet and onnx,
    otherwise a directory. For iceberg, a directory gets a catalog of its own, in SQLite; a name without a slash or dot
    is a catalog of the configuration of pyiceberg."""
    table: str = "vidclf.predictions"
    """Namespace and name of the table, for --to iceberg."""
    mode: Mode = "append"
    """What happens to the rows that the output already has. append: they stay; refused if the same ensemble has other
    rows of the same videos there. replace-by-video: the rows of the exported videos are replaced. new-snapshot: all
    rows are replaced; tables keep the earlier rows as an earlier version."""
    rows: Literal["videos", "segments"] = "videos"
    """What a row is. segments: a segment of a video, for runs of jobs/classify.py --segments; for tables and csv only.
    fiftyone and activitynet always contain the segments if there are any."""
    only: tuple[str, ...] = ()
    """Sorts of videos to export, comma-separated; a video of any of these sorts is exported. abstained: the ensemble
    gave no label. drifted: the video is out of distribution (OOD score above 1). label-next: the video is in
    label_next.csv, which jobs/classify.py --label-next wrote; label-studio lists them in its order. misclassified: the
    most probable class differs from the label in the run's manifest. (default: all videos)"""
    columns: tuple[str, ...] = ()
    """Further columns of the predictions to export, comma-separated: attention, pts_s, is_black, luma_mean, sharpness,
    is_near_duplicate, member_probabilities, view_probabilities. A table that lacks them gets them. (default: none)"""
    tta: bool = False
    """With --to onnx, include test-time augmentation, as jobs/classify.py --tta does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_run = self.to not in OF_ENSEMBLES
        rule = f"given, and --ensemble left out, with --to {self.to}"
        require(not is_run or (self.run is not None and self.ensemble is None), "run", rule, self.run)
        rule = f"given, and --run left out, with --to {self.to}"
        require(is_run or (self.ensemble is not None and self.run is None), "ensemble", rule, self.ensemble)
        require(is_run or not self.only, "only", f"left out with --to {self.to}", ",".join(self.only))
        require(is_run or self.mode == ExportConfig.mode, "mode", f"left out with --to {self.to}", self.mode)
        require(self.to == "onnx" or not self.tta, "tta", "left out unless --to is onnx", self.tta)
        is_table = self.to in ("csv", "delta", "iceberg", "lance")
        ending = FILE_ENDINGS.get(self.to)
        path = self.output.split("?", 1)[0]
        require(ending is None or path.endswith(ending), "output", f"a {ending} file with --to {self.to}", self.output)
        require(set(self.only) <= set(SELECTIONS), "only", f"one or several of {', '.join(SELECTIONS)}", self.only)
        require(set(self.columns) <= set(COLUMNS), "columns", f"one or several of {', '.join(COLUMNS)}", self.columns)
        require(len(set(self.columns)) == len(self.columns), "columns", "each named once", ",".join(self.columns))
        rule = "left out unless --to is a table or csv, because the fields of the others are fixed"
        require(is_table or not self.columns, "columns", rule, ",".join(self.columns))
        rule = "'videos' unless --to is a table or csv"
        require(is_table or self.rows == "videos", "rows", rule, self.rows)
        require(self.rows == "videos" or not self.columns, "columns", "left out with --rows segments", self.columns)
        names = self.table.split(".")
        require(
            len(names) >= 2 and all(names), "table", "a namespace and a name, such as vidclf.predictions", self.table
        )
        is_default = self.table == ExportConfig.table
        require(self.to == "iceberg" or is_default, "table", "left out unless --to is iceberg", self.table)

    @property
    def is_catalog(self) -> bool:
        """Whether the output is a catalog that the configuration of pyiceberg names, not a location."""
        return self.to == "iceberg" and "/" not in self.output and "." not in self.output

    @property
    def is_file(self) -> bool:
        """Whether the output is one file."""
        return self.to in FILE_ENDINGS
