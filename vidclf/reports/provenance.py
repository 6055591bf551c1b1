"""Facts about how a report was made: command line, library versions, date, and locations without credentials."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any

import vidclf
from vidclf import installation, storage
from vidclf.credentials import masked

LIBRARIES = ("torch", "numpy", "scikit-learn", "pyarrow", "av")
"""Libraries whose versions a report states."""


def command(job: str, config: Any) -> str:
    """Command line that repeats a job, as text, with the flags that differ from their defaults.

    It contains no credentials. Absolute paths become relative to the output, so that a shared report names no home
    directory.
    """
    words = installation.program(job).split()
    for field in fields(config):
        value = getattr(config, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag}", ",".join(shown(str(one), config.output) for one in values)]
    return shlex.join(words)


def shown(location: str, output: str) -> str:
    """Text of a location for a report in `output`: a path relative to that directory, or a URI without credentials."""
    if storage.is_uri(location):
        return masked(location)
    if not os.path.isabs(location) or storage.is_uri(output):
        return location
    return os.path.relpath(location, storage.canonical(output))


def versions() -> str:
    """Versions of vidclf, Python and the libraries that influence figures, as text for a table."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    version_of = {"vidclf": vidclf.__version__, "python": platform.python_version(), **libraries}
    return ", ".join(f"{name} {version}" for name, version in version_of.items())


def now() -> str:
    """The current date and time in UTC, to the minute, as text."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def settings_text(settings: dict[str, Any]) -> str:
    """Text for a table with the settings of a classification that decide its predictions."""
    values = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
