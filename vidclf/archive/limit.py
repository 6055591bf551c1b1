"""Choice of a few videos of an archive for a trial, spread over its classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence


def spread(classes: Sequence[Hashable], splits: Sequence[Hashable], limit: int) -> list[int]:
    """Choose at most `limit` rows, as evenly as possible over the classes and, within a class, over the splits.

    `classes` and `splits` have one entry per row. Returns row numbers in ascending order. Of equal rows, earlier ones
    are chosen.
    """
    rows_of: dict[Hashable, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (label, split) in enumerate(zip(classes, splits, strict=True)):
        rows_of[label][split].append(row)
    return sorted(_in_turn([_in_turn(list(of_split.values())) for of_split in rows_of.values()])[:limit])


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the items of several lists, in turn one of each."""
    longest = max(map(len, lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]
