"""The list of `classify --label-next N`: the videos of a finished classification whose labels would teach most.

`label_next.csv` in the output names N videos, the most informative first, with an empty column `label`. Filled in, it
is a list for `jobs/index.py --labels`. `jobs/export.py --only label-next` gives the same videos to a labelling tool.

Shape suffixes: B videos, C classes, D features.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.config import ClassifyConfig
from vidclf.credentials import masked
from vidclf.csv_text import plain_text
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.number_words import counted
from vidclf.runs.layout import Run
from vidclf.schema import VIDEO_ID
from vidclf.uncertainty.informative import most_informative

MIN_CANDIDATES = 2000
"""Number of the least trusted videos among which the choice is made, at least (Citovsky et al. 2021, arXiv:2107.14263:
first the uncertain ones, then different ones among them). It bounds memory and time."""

CANDIDATES_PER_CHOICE = 10
"""The same for long lists: candidates per video to choose."""

MAX_CANDIDATES = 20_000
"""The same for very long lists, at most (but never fewer than the videos to choose)."""

_COLUMNS = [VIDEO_ID, "video_uri", "top_label", "confidence", "trust_score", "ood_score", "probabilities"]


def check_unlabelled(config: ClassifyConfig, labels: pa.ChunkedArray) -> None:
    """Raise ConfigError if `--label-next` is given and no video is without a label. `labels`: that column of the
    manifest."""
    if config.label_next is not None and len(labels) and not labels.null_count:
        raise ConfigError(
            f"--label-next {config.label_next}: must be left out, because every video of the manifest has a label"
        )


def publish_label_next(config: ClassifyConfig, summaries: Mapping[str, dict[str, Any]] | None) -> None:
    """Write the list of `--label-next` into the finished classification, and print a line about it.

    `summaries` are those of the job's output directories by location; None after a dry run. Besides the predictions
    these are saved features.
    """
    if config.label_next is None or summaries is None:
        return
    run = storage.canonical(config.output)
    features = [storage.canonical(each) for each in config.features] or [other for other in summaries if other != run]
    rows = candidates(run, config.label_next)
    chosen = rows.take(pa.array(_choice(rows, features, config.label_next), pa.int64()))
    location = Run(run).label_next_file
    storage.publish_bytes(location, _csv(chosen))
    if not chosen.num_rows:
        print(f"{location}: no video to label next, because every classified video has a label")
        return
    basis = "trust, classes and features" if features else "trust and classes, without features"
    print(f"{location}: {counted(chosen.num_rows, 'video')} to label next, the most informative first (by {basis})")


def candidates(run: str, number: int) -> pa.Table:
    """The least trusted videos of a run that have no label in its manifest, with their sources in the column `group`,
    sorted by id.

    Rows are read shard by shard, so that memory does not grow with the archive.
    """
    most = max(MIN_CANDIDATES, min(CANDIDATES_PER_CHOICE * number, MAX_CANDIDATES), number)
    manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "label", "group"])
    manifest = manifest.filter(pc.is_null(manifest["label"])).select([VIDEO_ID, "group"]).combine_chunks()
    kept: pa.Table | None = None
    for table in storage.iter_tables(Run(run).shards(), _COLUMNS):
        position = pc.index_in(table[VIDEO_ID], manifest[VIDEO_ID].combine_chunks())
        unlabelled = table.append_column("group", manifest["group"].combine_chunks().take(position))
        unlabelled = unlabelled.filter(pc.is_valid(position))
        both = unlabelled if kept is None else pa.concat_tables([kept, unlabelled])
        kept = both.sort_by([("trust_score", "ascending"), (VIDEO_ID, "ascending")]).slice(0, most).combine_chunks()
    if kept is None:
        return pa.table({name: pa.array([], pa.string()) for name in (*_COLUMNS, "group")})
    return kept.sort_by(VIDEO_ID)


def _choice(rows: pa.Table, features: Sequence[str], number: int) -> list[int]:
    """Indices of the rows to label, the most informative first."""
    if not rows.num_rows:
        return []
    flat = rows["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return most_informative(
        flat.reshape(rows.num_rows, -1),
        rows["trust_score"].to_numpy(),
        mean_features(features, rows[VIDEO_ID].to_pylist()),
        np.array(rows["group"].to_pylist()),
        number,
    )


def mean_features(runs: Sequence[str], video_ids: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """Mean features of the frames of these videos, those of several backbones side by side; None without `runs`.

    Those of each backbone are divided by their spread, so that all have the same influence. Raises KeyError if a run
    lacks one of the videos.
    """
    if not runs:
        return None
    wanted = pa.array(video_ids, pa.string())
    parts = []
    for run in runs:
        found: dict[str, npt.NDArray[np.float32]] = {}
        for table in storage.iter_tables(Run(run).shards(), [VIDEO_ID, "features"]):
            kept = table.filter(pc.is_in(table[VIDEO_ID], wanted))
            for video, row in zip(kept[VIDEO_ID].to_pylist(), kept["features"], strict=True):
                found[video] = features_TD(row).mean(axis=0, dtype=np.float32)
        means_BD = np.stack([found[video] for video in video_ids])
        parts.append(means_BD / max(float(means_BD.std(axis=0).mean()), 1e-12))
    return np.concatenate(parts, axis=1)


def _csv(rows: pa.Table) -> bytes:
    """The list as CSV: one line per video, with an empty cell for its label."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["rank", VIDEO_ID, "video_uri", "label", "top_label", "confidence", "trust_score", "ood_score"])
    for rank, row in enumerate(rows.to_pylist(), 1):
        scores = [f"{row[name]:.4f}" for name in ("confidence", "trust_score", "ood_score")]
        uri, label = plain_text(masked(row["video_uri"])), plain_text(row["top_label"])
        writer.writerow([rank, row[VIDEO_ID], uri, "", label, *scores])
    return stream.getvalue().encode()
