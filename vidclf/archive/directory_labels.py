"""Splits, labels and sublabels from the directories of an archive: `[split/]label/[sublabel/…/]video`."""

from __future__ import annotations

from collections.abc import Sequence

from vidclf.errors import ConfigError
from vidclf.schema import SPLITS

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names of the splits by every usual word for them, in lower case."""

_REMEDY = "or take all of them as classes with --split-directories never"


def split_of(name: str) -> str | None:
    """Return the split that a word such as "Validation" stands for; None if it stands for none."""
    return SPLIT_WORDS.get(name.strip().lower())


def labels_of(location: str, relatives: Sequence[str], *, find_splits: bool = True) -> list[dict[str, str | None]]:
    """Return the split, label and sublabel of each video of the archive at `location`.

    `relatives`: the paths of the videos below the archive. Without `find_splits`, directories such as `train` are
    labels. Raises ConfigError if it is unclear whether a directory is a split or a label.
    """
    directories = [relative.split("/")[:-1] for relative in relatives]
    if find_splits:
        _check_clear(location, directories)
    rows: list[dict[str, str | None]] = []
    for names in directories:
        split = split_of(names[0]) if names and find_splits else None
        below = names[1:] if split else names
        label = below[0] if below else None
        rows.append({"split": split, "label": label, "sublabel": "/".join(below[1:]) or None})
    return rows


def _check_clear(location: str, directories: Sequence[list[str]]) -> None:
    """Raise ConfigError unless the directories at the top are either all splits or all labels."""
    first_names = sorted({names[0] for names in directories if names})
    words = [name for name in first_names if split_of(name)]
    others = [name for name in first_names if not split_of(name)]
    if words and others:
        raise ConfigError(
            f"--input {location}: {words[0]!r} stands beside {others[0]!r}: is {words[0]!r} a split or a class? Leave "
            f"out what is no split (--exclude {others[0]!r}), {_REMEDY}"
        )
    for split in SPLITS:
        same = [name for name in words if split_of(name) == split]
        if len(same) > 1:
            raise ConfigError(
                f"--input {location}: {same[0]!r} and {same[1]!r} both mean the split {split}: which one is it? Leave "
                f"out the other (--exclude {same[1]!r}), {_REMEDY}"
            )
    below = [split_of(names[1]) if len(names) > 1 else None for names in directories]
    if not words and all(below) and len(set(below)) > 1:
        label, word = directories[0][:2]
        raise ConfigError(
            f"--input {location}: {word!r} stands below {label!r}: is it a split or a sublabel? Move splits above the "
            "labels, or take them as sublabels with --split-directories never"
        )
