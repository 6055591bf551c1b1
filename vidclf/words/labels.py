"""The file of `classify --labels`: the classes, each with one or more descriptions in words.

cooking: a video of someone cooking
football: [a football match, people playing football on a field]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidclf import storage
from vidclf.errors import ConfigError

MAX_LABELS = 4096
"""Largest number of labels in a file."""

Labels = dict[str, tuple[str, ...]]
"""Descriptions of each label, in the order of the file."""


def read_labels(location: str) -> Labels:
    """The labels in a YAML file at a path or URI, with their descriptions.

    Raises ConfigError, with file, label, rule and value, if the file is not valid.
    """
    values = storage.read_yaml(location, "--labels")
    try:
        return parse_labels(values)
    except ConfigError as error:
        raise ConfigError(f"--labels {location}: {error}") from error


def parse_labels(values: Any) -> Labels:
    """The labels in parsed YAML. Raises ConfigError with label, rule and value if it is not valid."""
    if not isinstance(values, dict):
        raise ConfigError(f"must hold `label: description` lines, holds {type(values).__name__}")
    if not 2 <= len(values) <= MAX_LABELS:
        raise ConfigError(f"must hold between 2 and {MAX_LABELS} labels, holds {len(values)}")
    labels = {_label(name): _descriptions(name, value) for name, value in values.items()}
    if len(labels) < len(values):
        raise ConfigError("must name each label once, apart from spaces around it")
    label_of: dict[str, str] = {}
    for name, descriptions in labels.items():
        for text in descriptions:
            if text in label_of:
                raise ConfigError(
                    f"{name}: each description must stand once in the file, {text!r} stands under {label_of[text]!r} "
                    "too; describe what tells them apart"
                )
            label_of[text] = name
    return labels


def _label(name: Any) -> str:
    """The name of a label. Raises ConfigError unless it is text that is not empty."""
    if not isinstance(name, str):
        raise ConfigError(f"a label must be text, got {name!r} ({type(name).__name__}); write it in quotation marks")
    if not name.strip():
        raise ConfigError(f"a label must not be empty, got {name!r}")
    return name.strip()


def _descriptions(name: str, value: Any) -> tuple[str, ...]:
    """The descriptions of the label `name`. Raises ConfigError unless they are one text or a list of texts."""
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ConfigError(f"{name}: must have at least one description, has an empty list")
    for text in given:
        if not isinstance(text, str):
            kind = "nothing" if text is None else f"{text!r} ({type(text).__name__})"
            raise ConfigError(
                f"{name}: a description must be text, or a list of texts, got {kind}; write it in quotation marks"
            )
        if not text.strip():
            raise ConfigError(f"{name}: a description must not be empty, got {text!r}")
    return tuple(" ".join(text.split()) for text in given)


def described(labels: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The labels as plain values for JSON."""
    return {name: list(descriptions) for name, descriptions in labels.items()}
