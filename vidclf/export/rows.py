"""Rows of a classification run for an export: predictions with the facts of the run's newest manifest."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.arrow import combined
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.json_text import json_text
from vidclf.runs.layout import Run, file_name
from vidclf.schema import VIDEO_ID
from vidclf.uncertainty.ood import is_out_of_distribution

BATCH_ROWS = 8192
"""Largest number of rows that are handed to a library at once."""

_WRITTEN_ANEW = "run jobs/classify.py again with --label-next N, which classifies nothing again"
"""Remedy for a `label_next.csv` that is absent or cannot be read."""

_FROM_MANIFEST = {
    "video_uri": "video_uri",
    "label": "true_label",
    "sublabel": "true_sublabel",
    "group": "group",
    "split": "split",
}
"""Columns of the manifest and their names in an export. `label` and `sublabel` are what the ensemble gave, so those of
the manifest are `true_label` and `true_sublabel`."""

_VIDEO_COLUMNS = (
    *("label", "sublabel", "verdict", "top_label", "confidence", "probabilities", "trust_score", "ood_score"),
    *("member_disagreement", "stage", "sharpened", "num_frames", "duration_s", "width", "height", "framerate"),
    *("video_codec", "all_black", "is_blurry", "size_bytes", "modified", "content_digest"),
)
_SEGMENT_COLUMNS = ("segment_index", "start_s", "end_s", "num_frames", "top_label", "confidence", "probabilities")


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """The rows that one export takes from a run directory, read file by file."""

    run: str
    run_id: str
    """digest of the run: its settings, the names of its files, its manifest, and the exported columns"""
    ensemble_id: str
    classes: tuple[str, ...]
    columns: pa.Schema
    """columns of the exported rows"""
    videos: Set[str]
    """ids of the videos that are exported"""
    is_of_segments: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    """rank of the videos of `label_next.csv` by id, if these are selected; else empty"""
    manifest: pa.Table = field(repr=False)
    """manifest of the run, with the columns of `_FROM_MANIFEST` under their names in the export"""

    @classmethod
    def read(
        cls, run: str, *, only: Sequence[str] = (), extra: Sequence[str] = (), is_of_segments: bool = False
    ) -> RunRows:
        """Rows of the run directory `run`, without reading more than what selects them.

        `only`: sorts of videos (`--only`). `extra`: further columns. Raises ConfigError if the run has no predictions,
        no segments or no labels, although they are needed.
        """
        identity = Run(run).identity()
        classes = tuple(identity.get("classes") or ())
        if identity.get("ensemble_id") is None or not classes:
            raise ConfigError(f"--run {run}: must be a classification of jobs/classify.py, holds features")
        if is_of_segments and "segment_columns" not in identity:
            raise ConfigError(f"--rows segments: {run} has none; classify the videos with --segments")
        columns = _columns(len(classes), is_of_segments, extra)
        manifest = _manifest(run)
        ranks = label_ranks(run, manifest) if "label-next" in only else {}
        return cls(
            run=run,
            run_id=_run_id(run, columns),
            ensemble_id=identity["ensemble_id"],
            classes=classes,
            columns=columns,
            videos=_selected(run, only, ranks),
            ranks=ranks,
            is_of_segments=is_of_segments,
            manifest=manifest,
        )

    def batches(self, videos: Set[str]) -> Iterator[pa.RecordBatch]:
        """The rows of `videos`, with the columns `columns`, one file of the run in memory at a time."""
        wanted = pa.array(sorted(videos), pa.string())
        for path in Run(self.run).segment_shards() if self.is_of_segments else Run(self.run).shards():
            rows = storage.read_table(path)
            rows = rows.filter(pc.is_in(rows[VIDEO_ID], wanted))
            if rows.num_rows:
                yield from self._completed(rows).to_batches(max_chunksize=BATCH_ROWS)

    def reader(self, videos: Set[str]) -> pa.RecordBatchReader:
        """The rows of `videos` as a stream for the libraries of the table formats."""
        return pa.RecordBatchReader.from_batches(self.columns, self.batches(videos))

    def segments(self) -> dict[str, list[dict[str, object]]]:
        """The segments of the exported videos by video id, in order; empty if the run has none."""
        found: dict[str, list[dict[str, object]]] = {}
        for table in storage.iter_tables(Run(self.run).segment_shards(), [VIDEO_ID, *_SEGMENT_COLUMNS[:-1]]):
            for row in table.sort_by([(VIDEO_ID, "ascending"), ("segment_index", "ascending")]).to_pylist():
                if row[VIDEO_ID] in self.videos:
                    found.setdefault(row[VIDEO_ID], []).append(row)
        return found

    def _completed(self, rows: pa.Table) -> pa.Table:
        """Rows of a file of the run with the columns of the export."""
        position = pc.index_in(rows[VIDEO_ID], combined(self.manifest[VIDEO_ID]))
        constants = {"run_id": self.run_id, "ensemble_id": self.ensemble_id}
        values = []
        for column in self.columns:
            if column.name in constants:
                value = pa.array([constants[column.name]] * rows.num_rows, pa.string())
            elif column.name == "classes":
                value = pa.array([self.classes] * rows.num_rows, column.type)
            elif column.name in self.manifest.column_names:
                value = self.manifest[column.name].take(position)
            elif column.name == "sublabel" and column.name not in rows.column_names:
                value = pa.nulls(rows.num_rows, column.type)  # a file of a version without sublabels
            else:
                value = rows[column.name].cast(column.type)
            values.append(value)
        return pa.table(values, schema=self.columns)


def _columns(num_classes: int, is_of_segments: bool, extra: Sequence[str]) -> pa.Schema:
    """Columns of an export. Lists have no fixed length, because ensembles with other classes share the table, and all
    columns may be null, because tables are read together with rows of other versions."""
    of_run = schema.segments(num_classes) if is_of_segments else schema.predictions(num_classes)
    names = _SEGMENT_COLUMNS if is_of_segments else (*_VIDEO_COLUMNS, *extra)
    text = pa.string()
    return pa.schema(
        [
            *((name, text) for name in ("run_id", VIDEO_ID, "ensemble_id", "video_uri", "true_label")),
            *((name, text) for name in ("true_sublabel", "group", "split")),
            *((name, _list_type(of_run.field(name).type)) for name in names),
            ("classes", pa.list_(text)),
        ]
    )


def _list_type(kind: pa.DataType) -> pa.DataType:
    """The type without the fixed lengths of lists."""
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_list_type(kind.value_type))
    return kind


def _manifest(run: str) -> pa.Table:
    """The manifest of a run with the columns of an export; locations without credentials."""
    table = storage.read_table(Run(run).manifest_file, [VIDEO_ID, *_FROM_MANIFEST])
    for name in ("video_uri", "group"):
        shown = pa.array(map(masked, table[name].to_pylist()), pa.string())
        table = table.set_column(table.column_names.index(name), name, shown)
    return table.rename_columns([_FROM_MANIFEST.get(name, name) for name in table.column_names])


def _run_id(run: str, columns: pa.Schema) -> str:
    """Digest of a run's content and of the exported columns.

    A shard's name is unique for the task that wrote it, so the names and sizes stand for the rows.
    """
    digest = hashlib.sha256()
    paths = [*Run(run).shards(), *Run(run).segment_shards()]
    shards = sorted((file_name(path), storage.size(path)) for path in paths)
    digest.update(json_text([Run(run).identity(), shards, columns.names], sort_keys=True).encode())
    for row in _manifest(run).sort_by(VIDEO_ID).to_pylist():
        digest.update(json_text(list(row.values())).encode())
    return digest.hexdigest()[:32]


def _selected(run: str, only: Sequence[str], ranks: Mapping[str, int]) -> set[str]:
    """Ids of the videos of the sorts `only`, or of all classified videos. `ranks` are those of the sort `label-next`.

    Raises ConfigError if labels are lacking.
    """
    labels: dict[str, str | None] = {}
    if "misclassified" in only:
        manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "label"])
        labels = dict(zip(*(manifest[name].to_pylist() for name in (VIDEO_ID, "label")), strict=True))
        if not any(labels.values()):
            raise ConfigError(
                f"--only misclassified: the manifest of {run} has no labels; classify with --manifest of a labelled "
                "archive"
            )
    ids: set[str] = set()
    for table in storage.iter_tables(Run(run).shards(), [VIDEO_ID, "verdict", "ood_score", "top_label"]):
        for row in table.to_pylist():
            label = labels.get(row[VIDEO_ID])
            sorts = {
                "abstained": row["verdict"] == schema.Verdict.ABSTAINED,
                "drifted": row["ood_score"] is not None and bool(is_out_of_distribution(row["ood_score"])),
                "label-next": row[VIDEO_ID] in ranks,
                "misclassified": label is not None and label != row["top_label"],
            }
            if not only or any(sorts[name] for name in only):
                ids.add(row[VIDEO_ID])
    return ids


def label_ranks(run: str, manifest: pa.Table) -> dict[str, int]:
    """Rank from 1 of each video of the run's `label_next.csv`, by video id, the most informative first.

    Videos that have a label in `manifest` since the list was written are left out. Raises ConfigError if there is no
    such file, or if it lacks a column or a rank.
    """
    location = Run(run).label_next_file
    if not storage.exists(location):
        raise ConfigError(f"--only label-next: {run} has no {file_name(location)}; {_WRITTEN_ANEW}")
    rows = csv.DictReader(io.StringIO(storage.read_bytes(location).decode("utf-8-sig"), newline=""))
    columns = rows.fieldnames or []
    if not {"rank", VIDEO_ID} <= set(columns):
        raise ConfigError(
            f"--only label-next: {location} must have the columns rank and {VIDEO_ID}, separated by commas; its first "
            f"line gives {', '.join(columns) or 'none'}; {_WRITTEN_ANEW}"
        )
    ranks = {}
    for row in rows:
        rank = row["rank"] or ""
        if not rank.isdecimal():
            raise ConfigError(
                f"--only label-next: {location} line {rows.line_num}: rank must be a whole number, is {rank!r}; "
                f"{_WRITTEN_ANEW}"
            )
        ranks[row[VIDEO_ID]] = int(rank)
    labelled = set(manifest.filter(pc.is_valid(manifest["true_label"]))[VIDEO_ID].to_pylist())
    return {video: rank for video, rank in ranks.items() if video not in labelled}
