"""Checks of a job's inputs and outputs before it starts: within a second, without torch and Ray, before any deletion.

Refused are inputs that cannot be read, outputs that cannot be written or contain other files, and outputs that contain
an input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vidclf import ray_address, storage
from vidclf.config import (
    ClassifyConfig,
    DiffConfig,
    EvaluateConfig,
    ExtractConfig,
    IndexConfig,
    PlanConfig,
    QuantizeConfig,
    ServeConfig,
    TrainConfig,
    TuneConfig,
)
from vidclf.errors import ConfigError
from vidclf.runs import output_allowlist, outputs
from vidclf.runs.output_allowlist import FileKind, Kind

DIRECTORY, FILE, EITHER = "a directory", "a file", "a file or a directory"
"""What an input must be, in the words of the messages."""

INPUTS = {
    "input": EITHER,
    "manifest": FILE,
    "features": DIRECTORY,
    "first_look": DIRECTORY,
    "ensemble": DIRECTORY,
    "predictions": DIRECTORY,
    "before": DIRECTORY,
    "after": DIRECTORY,
    "run": DIRECTORY,
    "import_reference": DIRECTORY,
    "reference_classes": FILE,
    "space": FILE,
    "prices": FILE,
    "weights": FILE,
}
"""Fields of all jobs that name an input. A local input must be of the given sort."""

FILE_ENDINGS = (".h5", ".hdf5", ".parquet")
"""Endings of files that are accepted in place of a directory: HDF5 files for features, a table for predictions."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A location that a job writes."""

    flag: str
    """the flag that names it, such as --output"""
    location: str
    kind: Kind | FileKind
    """which files the job writes there"""
    overwrite: bool = False
    """whether `--overwrite` is given"""
    can_overwrite: bool = False
    """whether the job has `--overwrite`, which messages then suggest"""


OUTPUTS: dict[type, dict[str, Kind | FileKind]] = {
    IndexConfig: {"output": output_allowlist.MANIFEST},
    ExtractConfig: {"output": output_allowlist.FEATURES},
    ClassifyConfig: {"output": output_allowlist.PREDICTIONS, "save_features": output_allowlist.FEATURES},
    TrainConfig: {"output": output_allowlist.ENSEMBLE},
    TuneConfig: {"output": output_allowlist.SEARCH},
    EvaluateConfig: {"output": output_allowlist.REPORT},
    DiffConfig: {"output": output_allowlist.COMPARISON},
    QuantizeConfig: {"output": output_allowlist.QUANTIZED},
    PlanConfig: {"write": output_allowlist.POOLS},
}
"""Fields of each job that name an output, with the kind of output."""


def check(config: Any, config_file: str | None = None) -> None:
    """Raise ConfigError if the arguments alone show that the job must not start; `config_file` is from `--config`."""
    for field, location in named_inputs(config):
        _check_input(field, location)
    check_outputs(config, config_file)
    if needs_ray(config):
        ray_address.check_ray()
    for output in named_outputs(config):
        outputs.probe(output.flag, output.location, is_file=isinstance(output.kind, FileKind))


def needs_ray(config: Any) -> bool:
    """Whether a job starts Ray or connects to a cluster."""
    if isinstance(config, TrainConfig) and config.import_reference is not None:
        return False
    if isinstance(config, EvaluateConfig):
        return config.gpus > 0 and not config.dry_run
    is_of_ray = isinstance(config, ExtractConfig | ClassifyConfig | TrainConfig | TuneConfig | ServeConfig)
    return is_of_ray and not config.dry_run


def check_outputs(config: Any, config_file: str | None = None) -> None:
    """Raise ConfigError if an output contains other files, or if it and an input overlap.

    Overlap means that they are the same location, or that one of them contains the other. The file of `--config` counts
    as an input if `--overwrite` would delete it.
    """
    inputs = [(flag(field), location) for field, location in named_inputs(config)]
    if config_file is not None and getattr(config, "overwrite", False):
        inputs.append(("--config", config_file))
    all_outputs = list(named_outputs(config))
    for output in all_outputs:
        if isinstance(output.kind, FileKind):
            for name, location in inputs:
                if outputs.real(location) == outputs.real(output.location):
                    raise ConfigError(
                        f"{output.flag} {output.location}: is also the file of {name}; choose another name"
                    )
            outputs.check_file(output.kind, output.flag, output.location)
            continue
        others = [(other.flag, other.location) for other in all_outputs if other is not output]
        for name, location in [*inputs, *others]:
            _check_apart(output, name, location)
        outputs.check(
            output.kind,
            output.flag,
            output.location,
            overwrite=output.overwrite,
            can_overwrite=output.can_overwrite,
        )


def named_outputs(config: Any) -> Iterator[Output]:
    """The outputs of a job."""
    for field, kind in OUTPUTS.get(type(config), {}).items():
        location = getattr(config, field)
        if location is not None:
            overwrite = getattr(config, "overwrite", False)
            can_overwrite = hasattr(config, "overwrite")
            yield Output(
                flag=flag(field), location=location, kind=kind, overwrite=overwrite, can_overwrite=can_overwrite
            )


def named_inputs(config: Any) -> Iterator[tuple[str, str]]:
    """Pairs of field and location for all inputs of a job.

    Values that are names, not locations, are left out: published weights and class names.
    """
    for field in INPUTS:
        value = getattr(config, field, None)
        for location in (value,) if isinstance(value, str) else value or ():
            is_name = "/" not in location and not os.path.exists(location)
            if location and not (field in ("weights", "reference_classes") and is_name):
                yield field, location


def flag(field: str) -> str:
    """The flag of a configuration field: `--first-look` for `first_look`."""
    return f"--{field.replace('_', '-')}"


def would_delete(config: Any) -> str:
    """The files that a job with `--overwrite` would delete, one line per file; empty without the flag."""
    lines = [
        outputs.would_delete(output.kind, output.location)
        for output in named_outputs(config)
        if output.overwrite and isinstance(output.kind, Kind)
    ]
    return "\n".join(filter(None, lines))


def _check_apart(output: Output, name: str, location: str) -> None:
    """Raise ConfigError if a directory to write overlaps the `location` given with the flag `name`."""
    if outputs.lies_in(location, output.location):
        is_same = outputs.lies_in(output.location, location)
        where = "is" if is_same else "holds"
    elif outputs.lies_in(output.location, location):
        where = "lies in"
    else:
        return
    raise ConfigError(f"{output.flag} {output.location}: {where} {name} {location}; choose a directory apart from it")


def _check_input(field: str, location: str) -> None:
    """Raise ConfigError if a local input is of the wrong sort or cannot be read.

    A missing input passes: the code that reads it reports it with more detail.
    """
    if storage.is_uri(location) and not location.startswith("file://"):
        return
    path = storage.canonical(location)
    expected = INPUTS[field]
    if location.endswith(FILE_ENDINGS) and expected == DIRECTORY:
        expected = EITHER
    try:
        is_directory = os.path.isdir(path)
        if not os.path.exists(path):
            os.stat(path)
        if is_directory:
            os.scandir(path).close()
        else:
            os.close(os.open(path, os.O_RDONLY))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{flag(field)} {location}: cannot be read ({error.strerror})") from None
    if expected != EITHER and is_directory != (expected == DIRECTORY):
        actual = DIRECTORY if is_directory else FILE
        raise ConfigError(f"{flag(field)} {location}: must be {expected}, is {actual}")
