"""Splits for an evaluation, corrected by the ensemble's own record of the videos that it was trained on."""

from __future__ import annotations

import pyarrow as pa

from vidclf import schema, storage
from vidclf.training.leakage import SPLITS_FILE


def by_record(manifest: pa.Table, directory: str | None) -> tuple[pa.Table, int]:
    """The table `manifest` with splits corrected by the ensemble's `splits.parquet`, and the number of changed rows.

    `directory` is the ensemble's. A video that is missing in the record takes the split of its source (the recording it
    was cut from) if a video of that source was in train or val. Without a record the table stays as it is.
    """
    path = storage.join(directory, SPLITS_FILE) if directory is not None else None
    if path is None or not storage.exists(path):
        return manifest, 0
    record = storage.read_table(path, [schema.VIDEO_ID, "split", "group"]).to_pylist()
    split_of = {row[schema.VIDEO_ID]: row["split"] for row in record}
    # The record joins sources with near duplicates, so its source names may differ from those of the manifest.
    rows = manifest.select([schema.VIDEO_ID, "group", "split"]).to_pylist()
    splits_of_group = [(row["group"], row["split"]) for row in record]
    splits_of_group += [(row["group"], split_of.get(row[schema.VIDEO_ID])) for row in rows]
    trained = {split: {group for group, name in splits_of_group if name == split} for split in ("train", "val")}
    splits = []
    for row in rows:
        split = split_of.get(row[schema.VIDEO_ID]) or row["split"]
        if split not in trained:
            split = next((name for name, groups in trained.items() if row["group"] in groups), split)
        splits.append(split)
    num_changed = sum(split != row["split"] for split, row in zip(splits, rows, strict=True))
    place = manifest.column_names.index("split")
    return manifest.set_column(place, manifest.schema.field(place), pa.array(splits, pa.string())), num_changed
