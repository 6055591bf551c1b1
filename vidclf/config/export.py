"""Configuration of the job `export` (results of a classification in tables, labelling tools and other formats)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidclf.config.fields import require
from vidclf.config.options import DryRunOptions, LeaseOptions

Target = Literal["csv", "delta", "iceberg", "lance", "fiftyone", "label-studio", "activitynet"]
"""Values of `--to`, the format of an export."""

Mode = Literal["append", "replace-by-video", "new-snapshot"]
"""Values of `--mode`, what happens to the rows that the output already has."""

FILE_ENDINGS = {"csv": ".csv", "label-studio": ".json", "activitynet": ".json"}
"""Ending of the output's name, for the targets that are one file. The output of the others is a directory."""

SELECTIONS = ("abstained", "drifted", "misclassified")
"""Values of `--only`, the sorts of videos that may be selected."""

COLUMNS = (
    *("attention", "pts_s", "is_black", "luma_mean", "sharpness", "is_near_duplicate"),
    *("member_probabilities", "view_probabilities"),
)
"""Values of `--columns`: columns of predictions with a list of numbers per video, which are left out by default."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LeaseOptions, DryRunOptions):
    """Copy the results of a classification into a table, a labelling tool or another format.

    The run must be finished and pass jobs/audit.py. All rows become visible at once, or none if the job is killed. A
    second export of the same run changes nothing.
    """

    run: str
    """Directory with the predictions to export, as jobs/classify.py writes it."""
    to: Target
    """Format of the output. delta, iceberg, lance: a table of the format, which needs the extra of the same name.
    fiftyone: a directory that FiftyOne imports. label-studio: a JSON file of tasks with predictions. activitynet: a
    JSON file of results. csv: a CSV file."""
    output: str
    """Location of the output: a file with the ending .csv or .json for csv, label-studio and activitynet, otherwise a
    directory. For iceberg, a directory gets a catalog of its own, in SQLite; a name without a slash or dot is a catalog
    of the configuration of pyiceberg."""
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
    gave no label. drifted: the video is out of distribution (OOD score above 1). misclassified: the most probable class
    differs from the label in the run's manifest. (default: all videos)"""
    columns: tuple[str, ...] = ()
    """Further columns of the predictions to export, comma-separated: attention, pts_s, is_black, luma_mean, sharpness,
    is_near_duplicate, member_probabilities, view_probabilities. A table that lacks them gets them. (default: none)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_table = self.to in ("csv", "delta", "iceberg", "lance")
        ending = FILE_ENDINGS.get(self.to)
        path = self.output.split("?", 1)[0]
        require(ending is None or path.endswith(ending), "output", f"a {ending} file with --to {self.to}", self.output)
        require(set(self.only) <= set(SELECTIONS), "only", f"one or several of {', '.join(SELECTIONS)}", self.only)
        require(set(self.columns) <= set(COLUMNS), "columns", f"one or several of {', '.join(COLUMNS)}", self.columns)
        require(len(set(self.columns)) == len(self.columns), "columns", "each named once", ",".join(self.columns))
        rule = "left out with --to fiftyone, label-studio and activitynet, whose fields are fixed"
        require(is_table or not self.columns, "columns", rule, ",".join(self.columns))
        rule = "'videos' with --to fiftyone, label-studio and activitynet"
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
