"""Command line of every job (program in `jobs/`): flags, YAML files, `--help` and exit codes.

All of them are derived from the configuration dataclass of the job. `run` is the whole main program of a job. Flags
override the YAML file of `--config`, which overrides the defaults.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import itertools
import sys
import textwrap
import threading
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from typing import Any, Literal, TextIO, TypeVar

import yaml

from vidclf import credentials, preflight, stderr_filter, storage
from vidclf.config.fields import Rule, base_kind, check_known, convert, field_rules
from vidclf.config.options import Options
from vidclf.config.train import RECIPES
from vidclf.errors import ConfigError, ErrorBudgetExceeded, RunStopped
from vidclf.runs import lease
from vidclf.runs.lease import Output
from vidclf.shortage import shortage

Config = TypeVar("Config", bound=Options)
"""Configuration dataclass of a job, such as `TrainConfig`."""

Writes = Callable[[Config], list[Output]]
"""Type of a function that takes a configuration and returns the outputs that its job writes. The job holds a lease on
each of them: a claim that keeps other jobs from writing there."""

EXIT_OK = 0
"""Exit code: the job finished."""

EXIT_DIFFERENCES = 1
"""Exit code of `audit` and `diff`: the job finished and found differences."""

EXIT_ERROR = 1
"""Exit code: the job stopped before its end (one line is printed), or failed unexpectedly (a traceback is printed)."""

EXIT_USAGE = 2
"""Exit code: the configuration or the input is wrong; one line is printed."""

EXIT_ERROR_BUDGET = 3
"""Exit code: more videos were rejected (could not be read or decoded) than `--max-error-rate` allows."""


def run(config_class: type[Config], job: Callable[[Config], int], writes: Writes[Config] | None = None) -> None:
    """Main program of a job: parse the command line into a `config_class`, call `job` with it, and exit with its code.

    While the job runs, it holds a lease (a claim against other jobs) on each output that `writes` returns, unless it is
    a dry run.

    A ConfigError, from parsing or from the job, is printed as one line on stderr; the exit code is 2. A job that
    stopped before its end also prints one line; the exit code is 3 if too many videos were rejected, otherwise 1. A
    full disk, too little memory and Ctrl-C give one line and exit code 1. Any other exception is a bug or a broken
    cluster: traceback and exit code 1.
    """
    with masked_output(stderr_filter.own_stderr()):
        code = _run(config_class, job, writes)
    sys.exit(code)


def _run(config_class: type[Config], job: Callable[[Config], int], writes: Writes[Config] | None) -> int:
    """Parse the command line, check it, take the leases (claims on the outputs) and run the job. Returns the exit code,
    also if an exception was raised, whose message is then printed."""
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        config, config_file = _parsed(config_class, sys.argv[1:], name)
        with checked_and_held(config, name, writes, config_file):
            return job(config)
    except ConfigError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RunStopped as stopped:
        print(f"{name}: {stopped}", file=sys.stderr)
        return EXIT_ERROR_BUDGET if isinstance(stopped, ErrorBudgetExceeded) else EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{name}: stopped by Ctrl-C; finished work is kept: submit the same job again", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        if lack := shortage(error):
            print(
                f"{name}: {lack.what}; finished work is kept: {lack.remedy} and submit the same job again",
                file=sys.stderr,
            )
            return EXIT_ERROR
        traceback.print_exc()  # printed here, so that credentials in it are masked
        return EXIT_ERROR


@contextmanager
def checked_and_held(
    config: Config, name: str, writes: Writes[Config] | None, config_file: str | None = None
) -> Iterator[None]:
    """Check the configuration of a job, then hold the leases on its outputs while the `with` body runs.

    `name`: the job's name in its leases. `config_file`: the file of `--config`, if one was given. Raises ConfigError
    if the job must not start.
    """
    # Checked before the job imports torch and Ray, which takes seconds.
    preflight.check(config, config_file)
    outputs = writes(config) if writes is not None and not getattr(config, "dry_run", False) else []
    with lease.held(outputs, name, take_over=getattr(config, "take_over", False)):
        yield


class _MaskedStream:
    """A text stream that replaces passwords, signatures and tokens in every text written to it, then passes it on.

    What Ray's own threads write goes to `for_ray` instead of `stream`. Ray prints its warnings to stdout, where the
    results of a job are read by other programs.
    """

    def __init__(self, stream: TextIO, for_ray: TextIO) -> None:
        self._stream = stream
        self._for_ray = for_ray

    def write(self, text: str) -> int:
        is_ray = threading.current_thread().name.startswith("ray_")
        return (self._for_ray if is_ray else self._stream).write(credentials.masked_text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def masked_output(stderr: TextIO) -> Iterator[None]:
    """Mask passwords, signatures and tokens of URIs in everything that is printed inside the `with` block, also by
    libraries. What is printed to stderr, and Ray's own messages, go to `stderr`."""
    masked_stdout, masked_stderr = (
        typing.cast(TextIO, _MaskedStream(stream, for_ray=stderr)) for stream in (sys.stdout, stderr)
    )
    with contextlib.redirect_stdout(masked_stdout), contextlib.redirect_stderr(masked_stderr):
        yield


def parse(config_class: type[Config], argv: list[str], prog: str | None = None) -> Config:
    """Configuration of a job from the flags in `argv`.

    Flags override the YAML file of `--config`, which overrides the defaults. `prog` is the program's name in `--help`.

    Raises ConfigError for an unknown flag or YAML key, a value of the wrong type or out of range, and a missing
    required field.
    """
    return _parsed(config_class, argv, prog)[0]


def _parsed(config_class: type[Config], argv: list[str], prog: str | None) -> tuple[Config, str | None]:
    """Configuration as `parse` returns it, and the path given with `--config` (None if the flag is not given)."""
    kinds = typing.get_type_hints(config_class)
    flags = vars(flag_parser(config_class, prog).parse_args(argv))
    config_file = flags.pop("config", None)
    values = _read_yaml(config_file, list(kinds)) if config_file else {}
    values.update(flags)
    config = configured(config_class, values)
    config.check_given(flags)
    return config, config_file


def configured(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """Configuration of a job from the values of its options by field name, as flags, YAML files and Python give them.

    Raises ConfigError for a value of the wrong type or out of range, and a missing required field.
    """
    kinds = typing.get_type_hints(config_class)
    values = {key: convert(key, value, kinds[key]) for key, value in values.items()}
    values = {**RECIPES.get(values.get("recipe", ""), {}), **values}
    missing = [f.name for f in fields(config_class) if f.default is MISSING and f.name not in values]
    if missing:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ConfigError(f"{names} must be given (as a flag or in --config); see --help")
    return config_class(**values)


def flag_parser(config_class: type, prog: str | None) -> _Parser:
    """Parser of a job's flags. Fields that the job inherits from a mix-in (a base class with shared options) are listed
    in `--help` under the heading of the mix-in."""
    parser = _Parser(
        prog=prog,
        description=inspect.getdoc(config_class),
        formatter_class=argparse.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below; flags override it.")
    kinds, rules, docs = typing.get_type_hints(config_class), field_rules(config_class), field_docs(config_class)
    by_name = {field.name: field for field in fields(config_class)}
    for title, names in titled_fields(config_class).items():
        group = parser.add_argument_group(title) if title else parser
        for name in names:
            field, kind, rule = by_name[name], kinds[name], rules.get(name)
            flag = f"--{name.replace('_', '-')}"
            text = help_text(docs[name], field.default, rule if typing.get_origin(kind) is not Literal else None)
            text = text.replace("%", "%%")
            if kind is bool:
                group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
            else:
                group.add_argument(flag, metavar=metavar(kind), default=argparse.SUPPRESS, help=text)
    return parser


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises ConfigError for a wrong flag, instead of printing its usage and exiting."""

    def error(self, message: str) -> typing.NoReturn:
        raise ConfigError(f"{message}; see --help")


def titled_fields(config_class: type) -> dict[str, list[str]]:
    """Field names of a configuration class, grouped by heading for `--help`.

    The heading is that of the mix-in (a base class with shared options) which declares the fields. The fields that the
    class itself declares come first, under the empty heading.
    """
    titles: dict[str, list[str]] = {}
    for owner in config_class.__mro__:
        title = "" if owner is config_class else (inspect.getdoc(owner) or "").split("\n")[0].rstrip(".")
        for field in fields(config_class):
            is_listed = any(field.name in names for names in titles.values())
            if field.name in vars(owner).get("__annotations__", {}) and not is_listed:
                titles.setdefault(title, []).append(field.name)
    return titles


def metavar(kind: Any) -> str:
    """Placeholder for the value of a flag in `--help`: its choices, such as `{a,b}`, or its type, such as `INT`."""
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    base = base_kind(kind)
    return "LIST" if base is tuple else str(base.__name__).upper()


def help_text(doc: str, default: Any, rule: Rule | None = None) -> str:
    """Help text of a flag: `doc`, then in brackets its default, or "required", and its range from `rule`.

    If `doc` itself ends in `(default: …)`, this description is used as the default.
    """
    default_text = "required" if default is MISSING else f"default: {_shown(default)}"
    if doc.endswith(")") and "(default" in doc:
        doc, _, default_text = doc[:-1].rpartition(" (")
    notes = [default_text, *([rule.text] if rule is not None else [])]
    return f"{doc} ({'; '.join(notes)})"


def field_docs(config_class: type) -> dict[str, str]:
    """Help texts of the fields of a dataclass and its bases, by field name: the string that follows each field in the
    source."""
    docs: dict[str, str] = {}
    for cls in reversed(config_class.__mro__[:-1]):
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
        for statement, following in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                name = typing.cast(ast.Name, statement.target).id
                docs[name] = " ".join(str(typing.cast(ast.Constant, following.value).value).split())
    return docs


def write_run_config(config: Any, output: str) -> None:
    """Write all values of `config`, defaults included and credentials masked, to `run_config.yaml` in the directory
    `output`."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    values = {key: _without_credentials(value) for key, value in values.items()}
    values.pop("take_over", None)  # holds for this submission only: reused with `--config` it would stop other jobs
    storage.publish_bytes(
        storage.join(output, "run_config.yaml"), yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
    )


def finish(config: Any, summaries: Mapping[str, dict[str, Any]] | None) -> int:
    """Last step of `extract` and `classify`: write their configuration, and print a summary of each output directory.

    `summaries` holds the summary of each output directory (run), by its location; None after a dry run, for which
    nothing is written. Returns the exit code 0. Raises ErrorBudgetExceeded if every video of a run was rejected.
    """
    if summaries is not None:
        from vidclf.runs.summary import check_any_ok, summary_text  # only the two jobs that write runs need it

        write_run_config(config, config.output)
        for run, summary in summaries.items():
            print(summary_text(run, summary))
            if "drift" in summary:
                print(summary["drift"]["sentence"])
        for run, summary in summaries.items():
            check_any_ok(run, summary, config.max_error_rate)
    return EXIT_OK


def _without_credentials(value: Any) -> Any:
    """Copy of a configuration value, a text or a list, in which passwords and tokens inside URIs are masked."""
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return credentials.masked(value) if isinstance(value, str) else value


def _read_yaml(path: str, known: list[str]) -> dict[str, Any]:
    """Values in the YAML file of `--config`, by field name. Its keys may contain hyphens, like flags.

    Raises ConfigError for a key that is not in `known`, the names of all fields.
    """
    values = storage.read_yaml(path, "--config") or {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: must hold `key: value` lines, holds {type(values).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    check_known(values, known, lambda key: f"--config {path}: unknown key {key!r}")
    return values


def _shown(default: Any) -> str:
    """Text of a default value as it would be written on the command line: lists with commas, `yes` or `no`, `none`."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default is None else str(default)
