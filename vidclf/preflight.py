"""Checks of a job's inputs and outputs before it starts, and before it deletes anything.

A job does not start if an input cannot be read, if an output cannot be written or contains files of another kind, or if
an input lies inside an output. The checks take less than a second, because they import neither torch nor Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vidclf import extras, ray_address, storage
from vidclf.config import (
    ClassifyConfig,
    DiffConfig,
    EvaluateConfig,
    ExportConfig,
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
"""Possible demands on an input (values of `INPUTS`), in the words of the error messages."""

INPUTS = {
    "input": EITHER,
    "manifest": FILE,
    "continue_from": FILE,
    "labels": FILE,
    "features": DIRECTORY,
    "first_look": DIRECTORY,
    "ensemble": DIRECTORY,
    "first_ensemble": DIRECTORY,
    "calibrate_with": DIRECTORY,
    "predictions": DIRECTORY,
    "before": DIRECTORY,
    "after": DIRECTORY,
    "run": DIRECTORY,
    "import_reference": DIRECTORY,
    "reference_classes": FILE,
    "space": FILE,
    "prices": FILE,
    "taxonomy": FILE,
    "weights": FILE,
}
"""Configuration fields, of all jobs, that name an input, and whether an input on this machine must be a file or a
directory."""

NAMES = ("weights", "reference_classes", "space", "continue_from")
"""Fields of `INPUTS` whose value may also be a word that is no location: a name of published weights, of a class or of
a search space, or `none`."""

FILE_ENDINGS = (".h5", ".hdf5", ".parquet")
"""Endings of file names that are accepted where `INPUTS` demands a directory: HDF5 for features, Parquet for
predictions."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file or directory that a job will write, as its configuration names it."""

    flag: str
    """flag that names this output, such as --output"""
    location: str
    """path or URI of the output"""
    kind: Kind | FileKind
    """list of the files that the job may write there; other files there are a reason to refuse"""
    overwrite: bool = False
    """whether the user gave `--overwrite`, so that earlier results are deleted"""
    can_overwrite: bool = False
    """whether the job has the flag `--overwrite`, so that error messages can suggest it"""


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
    ExportConfig: {},
}
"""Configuration fields that name an output, for each job, with the list of the files that the job may write there.

The output of `export` is of another kind for each target: `output_allowlist.EXPORTS`."""


def check(config: Any, config_file: str | None = None) -> None:
    """Run all checks of this module; ConfigError if the job must not start.

    `config_file` is the path given with `--config`, None without the flag.
    """
    extras.check(config)
    for field, location in named_inputs(config):
        _check_input(field, location)
    check_outputs(config, config_file)
    if needs_ray(config):
        ray_address.check_ray()
    for output in named_outputs(config):
        outputs.probe(output.flag, output.location, is_file=isinstance(output.kind, FileKind))


def needs_ray(config: Any) -> bool:
    """Whether the job with this configuration will start Ray or connect to a Ray cluster."""
    if isinstance(config, TrainConfig) and config.import_reference is not None:
        return False
    if isinstance(config, EvaluateConfig):
        return config.gpus > 0 and not config.dry_run
    is_of_ray = isinstance(config, ExtractConfig | ClassifyConfig | TrainConfig | TuneConfig | ServeConfig)
    return is_of_ray and not config.dry_run


def check_outputs(config: Any, config_file: str | None = None) -> None:
    """Raise ConfigError if an output contains files that the job does not write, or overlaps an input or another
    output.

    Two locations overlap if they are the same or if one contains the other. `config_file`, the file of `--config`,
    counts as an input with `--overwrite`, because that might delete it.
    """
    inputs = [(flag(field), location) for field, location in named_inputs(config)]
    if config_file is not None and getattr(config, "overwrite", False):
        inputs.append(("--config", config_file))
    all_outputs = list(named_outputs(config))
    for output in all_outputs:
        if isinstance(output.kind, FileKind):
            for name, location in inputs:
                # The new manifest of an archive may replace the one that it continues.
                is_same = name != "--continue-from" and outputs.real(location) == outputs.real(output.location)
                if is_same:
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
    """Yield the outputs that the configuration of a job names."""
    kinds = OUTPUTS.get(type(config), {})
    if isinstance(config, ExportConfig) and not config.is_catalog:
        kinds = {"output": output_allowlist.EXPORTS[config.to]}
    for field, kind in kinds.items():
        location = getattr(config, field)
        if location is not None:
            overwrite = getattr(config, "overwrite", False)
            can_overwrite = hasattr(config, "overwrite")
            yield Output(
                flag=flag(field), location=location, kind=kind, overwrite=overwrite, can_overwrite=can_overwrite
            )


def named_inputs(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the inputs that the configuration of a job names, as pairs of field name and location.

    Left out are values that are no locations (`NAMES`).
    """
    for field in INPUTS:
        value = getattr(config, field, None)
        for location in (value,) if isinstance(value, str) else value or ():
            is_name = "/" not in location and not os.path.exists(location)
            if location and not (field in NAMES and is_name):
                yield field, location


def flag(field: str) -> str:
    """Flag of the configuration field `field`: `--first-look` for `first_look`."""
    return f"--{field.replace('_', '-')}"


def would_delete(config: Any) -> str:
    """Text that lists the files that `--overwrite` would delete, one per line; empty if the flag is not given.

    Every line, also the last one, ends with a newline.
    """
    lines = [
        outputs.would_delete(output.kind, output.location)
        for output in named_outputs(config)
        if output.overwrite and isinstance(output.kind, Kind)
    ]
    return "".join(f"{line}\n" for line in lines if line)


def _check_apart(output: Output, name: str, location: str) -> None:
    """Raise ConfigError if the directory of `output` is, contains or lies in `location`, which the flag `name` gave."""
    if outputs.lies_in(location, output.location):
        is_same = outputs.lies_in(output.location, location)
        where = "is" if is_same else "holds"
    elif outputs.lies_in(output.location, location):
        where = "lies in"
    else:
        return
    raise ConfigError(f"{output.flag} {output.location}: {where} {name} {location}; choose a directory apart from it")


def _check_input(field: str, location: str) -> None:
    """Raise ConfigError if the input `location` is a file instead of a directory or vice versa, or cannot be read.

    Only paths on this machine are checked. `field` is the configuration field that names the input. A missing input
    passes here, because the code that reads it reports it with more detail.
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
