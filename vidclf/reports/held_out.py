"""The splits of an evaluation, by the ensemble's own record of what it was trained on."""

from __future__ import annotations

import pyarrow as pa

from vidclf import schema, storage
from vidclf.training.leakage import SPLITS_FILE


def by_record(manifest: pa.Table, directory: str | None) -> tuple[pa.Table, int]:
    """`schema.MANIFEST` with the splits of the `splits.parquet` of an ensemble, and how many rows had another one.

    A video that the record does not hold is of its source's split, if a video of the source was in train or val.
    Without a record the manifest decides.
    """
    path = storage.join(directory, SPLITS_FILE) if directory is not None else None
    if path is None or not storage.exists(path):
        return manifest, 0
    record = storage.read_table(path, [schema.VIDEO_ID, "split", "group"]).to_pylist()
    split_of = {row[schema.VIDEO_ID]: row["split"] for row in record}
    # The record joins sources that hold near duplicates, so that its names may not be those of the manifest.
    rows = manifest.select([schema.VIDEO_ID, "group", "split"]).to_pylist()
    named = [(row["group"], row["split"]) for row in record]
    named += [(row["group"], split_of.get(row[schema.VIDEO_ID])) for row in rows]
    seen = {split: {group for group, name in named if name == split} for split in ("train", "val")}
    found = []
    for row in rows:
        split = split_of.get(row[schema.VIDEO_ID]) or row["split"]
        if split not in seen:
            split = next((name for name, groups in seen.items() if row["group"] in groups), split)
        found.append(split)
    num_changed = sum(split != row["split"] for split, row in zip(found, rows, strict=True))
    place = manifest.column_names.index("split")
    return manifest.set_column(place, manifest.schema.field(place), pa.array(found, pa.string())), num_changed
