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

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidclf import storage
from vidclf.archive.label_spelling import canonical_name, check_spelling
from vidclf.errors import ConfigError

FLAG = "--taxonomy"

FORM = "a mapping of classes to sublabels, and of sublabels to lists of names in the archive"
"""The form of the file in words."""


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

    def apply(self, manifest: pa.Table, *, keep_spelling: bool) -> tuple[pa.Table, str]:
        """Rename labels and sublabels of a manifest; returns it, and a line about what was renamed.

        Raises ConfigError if the archive has no labels, lacks a name of the file, or, without `keep_spelling`, has then
        classes that differ only in case or spaces.
        """
        labels, sublabels = manifest["label"].to_pylist(), manifest["sublabel"].to_pylist()
        if None in labels:
            raise ConfigError(f"{FLAG} {self.location}: needs an archive with labels, this one has none")
        whole = Counter(labels)
        below = Counter(f"{label}/{sublabel}" for label, sublabel in zip(labels, sublabels, strict=True) if sublabel)
        for name, target in self.targets.items():
            if name not in whole and name not in below:
                raise ConfigError(
                    f"{FLAG} {self.location}: {name!r} below {_words(target)} must be a label or label/sublabel of the "
                    f"archive, is none; its labels are {_listed(sorted(whole))}"
                )
        found = [self._target(*pair) for pair in zip(labels, sublabels, strict=True)]
        new_labels = [
            target.label if target is not None else label for target, label in zip(found, labels, strict=True)
        ]
        new_sublabels = [
            target.sublabel if target is not None and target.sublabel is not None else sublabel
            for target, sublabel in zip(found, sublabels, strict=True)
        ]
        if not keep_spelling:
            check_spelling(self.location, new_labels, FLAG)
        for column, values in (("label", new_labels), ("sublabel", new_sublabels)):
            place = manifest.column_names.index(column)
            manifest = manifest.set_column(place, manifest.schema.field(column), pa.array(values, pa.string()))
        num_named = sum(target is not None for target in found)
        num_pairs = len({pair for pair in zip(new_labels, new_sublabels, strict=True) if pair[1]})
        return manifest, (
            f"taxonomy: {num_named} videos named by {self.location}, {len(found) - num_named} keep their names; "
            f"{len(set(new_labels))} classes and {num_pairs} sublabels"
        )

    def _target(self, label: str, sublabel: str | None) -> Target | None:
        """What the videos of a label and sublabel become; None if they stay as they are."""
        own = self.targets.get(f"{label}/{sublabel}") if sublabel else None
        return own or self.targets.get(label)


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
