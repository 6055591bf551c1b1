"""Choice of a few videos of an archive for a trial (`--limit`), spread over its classes and their splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import pyarrow as pa


def spread(classes: Sequence[Hashable], splits: Sequence[Hashable], limit: int) -> list[int]:
    """Choose at most `limit` rows, as evenly as possible over the classes and, within a class, over the splits.

    `classes` and `splits` have one entry per row. Returns row numbers in ascending order. Of equal rows, earlier ones
    are chosen.
    """
    rows_of: dict[Hashable, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (label, split) in enumerate(zip(classes, splits, strict=True)):
        rows_of[label][split].append(row)
    return sorted(_in_turn([_in_turn(list(of_split.values())) for of_split in rows_of.values()])[:limit])


def limited(manifest: pa.Table, limit: int) -> tuple[pa.Table, str]:
    """Return the chosen rows of a manifest, and a line that says how they were chosen; empty if they are all.

    A larger limit chooses these rows and more, so that a job can be continued with it.
    """
    if limit >= manifest.num_rows:
        return manifest, ""
    labels = manifest["label"].to_pylist()
    chosen = manifest.take(spread(labels, manifest["split"].to_pylist(), limit))
    num_labels = len(set(chosen["label"].to_pylist()) - {None})
    if not num_labels:
        return chosen, f"--limit: the first {limit} of {manifest.num_rows} videos; without labels they are not spread"
    of_all = f" of {num_all}" if (num_all := len(set(labels) - {None})) > num_labels else ""
    return chosen, f"--limit: {limit} of {manifest.num_rows} videos, spread over {num_labels}{of_all} classes"


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the items of several lists, in turn one of each."""
    longest = max(map(len, lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]
