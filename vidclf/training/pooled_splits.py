"""Splits of an ensemble whose train and validation videos make one pool (`--calibration cross`)."""

from __future__ import annotations

from collections.abc import Sequence


def pooled_splits(splits: Sequence[str | None]) -> list[str | None]:
    """The splits after validation videos have become train videos."""
    return ["train" if split == "val" else split for split in splits]
