"""A taxonomy file: renames and groups the labels and sublabels of an archive.

The YAML file maps each class to its sublabels, and each sublabel to the names that it has in the archive:

    Sport:
      ball games: [Sport/soccer, Sport/tennis]
      other: [Fitness]
    Music: [Musik, Concerts]

A name in the archive is `label` or `label/sublabel`; the second takes precedence for the videos that it names. A class
with a plain list of names, as `Music`, takes over their videos with the sublabels that these have. Labels that the file
does not name stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidclf import storage
from vidclf.archive.label_spelling import canonical_name, check_spelling
from vidclf.errors import ConfigError
from vidclf.number_words import counted

FLAG = "--taxonomy"

FORM = "a mapping of classes to sublabels, and of sublabels to lists of names in the archive"
"""The form of the file in words."""

Pair = tuple[str | None, str | None]
"""Label and sublabel of a video; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Class and sublabel that videos get. With None as the sublabel they keep the one that they have."""

    label: str
    sublabel: str | None


@dataclass(frozen=True, kw_only=True)
class TaxonomyFile:
    """Content of a taxonomy file."""

    location: str
    targets: dict[str, Target]
    """target by the name in the archive: `label` or `label/sublabel`"""

    @classmethod
    def read(cls, location: str) -> TaxonomyFile:
        """Read a taxonomy file. Raises ConfigError with a line about the first fault."""
        values = storage.read_yaml(location, FLAG)
        targets: dict[str, Target] = {}
        for target, names in _entries(location, values):
            if not isinstance(names, list) or not names:
                raise ConfigError(
                    f"{FLAG} {location}: {_words(target)} must have a list of at least one name in the archive, got "
                    f"{names!r}"
                )
            for name in names:
                text = _name(location, f"a name below {_words(target)}", name)
                if text in targets:
                    raise ConfigError(
                        f"{FLAG} {location}: every name must be given once, {text!r} stands below "
                        f"{_words(targets[text])} and {_words(target)}; remove one of them"
                    )
                targets[text] = target
        return cls(location=location, targets=targets)

    def apply(
        self, manifest: pa.Table, *, keep_spelling: bool, before: pa.Table | None = None, is_renamed: bool = False
    ) -> tuple[pa.Table, str]:
        """Rename labels and sublabels of a manifest; returns it, and a line about what was renamed.

        `before`: the same videos before `--labels` changed labels; their names need no longer be there. `is_renamed`:
        these videos may be renamed already. Those whose names did not change and are names that the file gives then
        stay as they are, so that nothing is renamed twice.

        Raises ConfigError if no video has a label, if the archive lacks a name of the file, or, without
        `keep_spelling`, if it has then classes that differ only in case or spaces.
        """
        pairs = _pairs(manifest)
        old_pairs = _pairs(before) if before is not None else []
        labels = {label for label, _ in pairs if label is not None}
        if not labels:
            raise ConfigError(
                f"{FLAG} {self.location}: needs an archive with labels, this one has none; give them with --labels"
            )
        self._check_names(labels, {*pairs, *old_pairs}, is_renamed=is_renamed)
        found = [self._target(*pair) for pair in pairs]
        if is_renamed:
            given = {(target.label, target.sublabel) for target in self.targets.values()}
            for number, (pair, old) in enumerate(zip(pairs, old_pairs, strict=True)):
                if pair == old and (pair in given or (pair[0], None) in given):
                    found[number] = None
        new_labels = [
            target.label if target is not None else pair[0] for target, pair in zip(found, pairs, strict=True)
        ]
        new_sublabels = [
            target.sublabel if target is not None and target.sublabel is not None else pair[1]
            for target, pair in zip(found, pairs, strict=True)
        ]
        if not keep_spelling:
            check_spelling(self.location, new_labels, FLAG)
        for column, values in (("label", new_labels), ("sublabel", new_sublabels)):
            place = manifest.column_names.index(column)
            manifest = manifest.set_column(place, manifest.schema.field(column), pa.array(values, pa.string()))
        num_named = sum(target is not None for target in found)
        num_without = sum(label is None for label, _ in pairs)
        num_pairs = len({pair for pair in zip(new_labels, new_sublabels, strict=True) if pair[1]})
        without = f", {num_without} have no label" if num_without else ""
        num_kept = len(found) - num_named - num_without
        classes = counted(len(set(new_labels) - {None}), "class", "classes")
        return manifest, (
            f"taxonomy: {counted(num_named, 'video')} named by {self.location}, {num_kept} keep their names{without}; "
            f"{classes} and {counted(num_pairs, 'sublabel')}"
        )

    def _check_names(self, labels: set[str], pairs: set[Pair], *, is_renamed: bool) -> None:
        """Raise ConfigError for a name of the file that is none of the archive. If names `is_renamed` already, perhaps,
        it is enough that the archive has the name that the file gives instead."""
        known = {label for label, _ in pairs} | {f"{label}/{sublabel}" for label, sublabel in pairs if sublabel}
        for name, target in self.targets.items():
            new = target.label if target.sublabel is None else f"{target.label}/{target.sublabel}"
            if name not in known and not (is_renamed and new in known):
                raise ConfigError(
                    f"{FLAG} {self.location}: {name!r} below {_words(target)} must be a label or label/sublabel of the "
                    f"archive, is none; its labels are {_listed(sorted(labels))}"
                )

    def _target(self, label: str | None, sublabel: str | None) -> Target | None:
        """What the videos of a label and sublabel become; None if they stay as they are."""
        if label is None:
            return None
        own = self.targets.get(f"{label}/{sublabel}") if sublabel else None
        return own or self.targets.get(label)


def _pairs(manifest: pa.Table) -> list[Pair]:
    """The label and sublabel of each video."""
    return list(zip(manifest["label"].to_pylist(), manifest["sublabel"].to_pylist(), strict=True))


def _entries(location: str, values: Any) -> Iterator[tuple[Target, Any]]:
    """Each target of the file, with the value that should be a list of names."""
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{FLAG} {location}: must be {FORM}, got {type(values).__name__}")
    for key, below in values.items():
        label = _name(location, "a class", key)
        if not isinstance(below, dict):
            yield Target(label=label, sublabel=None), below
            continue
        if not below:
            raise ConfigError(f"{FLAG} {location}: class {label!r} must have a sublabel or a list of names, has none")
        for name, names in below.items():
            yield Target(label=label, sublabel=_name(location, f"a sublabel of {label!r}", name)), names


def _name(location: str, what: str, value: Any) -> str:
    """A name of the file in the form that names have in a manifest. ConfigError unless it is text."""
    if not isinstance(value, str) or not canonical_name(value):
        raise ConfigError(
            f"{FLAG} {location}: {what} must be text, got {value!r}; put quotation marks around names such as 1 or yes"
        )
    return canonical_name(value)


def _words(target: Target) -> str:
    """The target as text for a message."""
    return repr(target.label if target.sublabel is None else f"{target.label}/{target.sublabel}")


def _listed(names: list[str], most: int = 12) -> str:
    """The names as text, at most `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
