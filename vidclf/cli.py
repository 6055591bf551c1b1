"""Command line of every job: flags, YAML files, `--help` and exit codes, derived from its configuration dataclass.

`run` is the whole main program of a job. Flags override the YAML file of `--config`, which overrides the defaults.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import itertools
import sys
import textwrap
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from typing import Any, Literal, TextIO, TypeVar

import yaml

from vidclf import credentials, preflight, storage
from vidclf.config.fields import Rule, base_kind, check_known, convert, field_rules
from vidclf.config.train import RECIPES
from vidclf.errors import ConfigError, ErrorBudgetExceeded, RunStopped
from vidclf.runs import lease
from vidclf.runs.lease import Output

Config = TypeVar("Config")

Writes = Callable[[Config], list[Output]]
"""Function from a configuration to the outputs of its job, whose leases the job holds."""

EXIT_OK = 0

EXIT_DIFFERENCES = 1
"""The job finished and found differences: `audit` and `diff`."""

EXIT_ERROR = 1
"""The job stopped before its end (one line), or failed unexpectedly (traceback)."""

EXIT_USAGE = 2
"""Wrong configuration or input, in one line."""

EXIT_ERROR_BUDGET = 3
"""More videos were rejected than `--max-error-rate` allows."""


def run(config_class: type[Config], job: Callable[[Config], int], writes: Writes[Config] | None = None) -> None:
    """Parse the command line into `config_class`, call `job` with it, and exit with the code that it returns.

    While the job runs, it holds the leases of the outputs that `writes` returns, unless it is a dry run.

    A ConfigError, from parsing or from the checks of the job, is one line on stderr and exit code 2. A job that stopped
    before its end is one line too; the exit code is 3 if too many videos were rejected, otherwise 1. A full disk and
    Ctrl-C are one line and 1. Any other exception is a bug or a broken cluster: traceback, exit code 1.
    """
    with _masked_output():
        code = _run(config_class, job, writes)
    sys.exit(code)


def _run(config_class: type[Config], job: Callable[[Config], int], writes: Writes[Config] | None) -> int:
    """Parse, check, take the leases and run the job; the exit code, also after an exception."""
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        config, config_file = _parsed(config_class, sys.argv[1:], name)
        # Checked before the job imports torch and Ray, which takes seconds.
        preflight.check(config, config_file)
        outputs = writes(config) if writes is not None and not getattr(config, "dry_run", False) else []
        with lease.held(outputs, name, take_over=getattr(config, "take_over", False)):
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
        if storage.is_disk_full(error):
            print(
                f"{name}: the disk is full ({_last_line(error)}); finished work is kept: free some space and submit "
                "the same job again",
                file=sys.stderr,
            )
            return EXIT_ERROR
        traceback.print_exc()  # printed here, so that credentials in it are masked
        return EXIT_ERROR


class _MaskedStream:
    """A text stream that masks the credentials in every text written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(credentials.masked_text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _masked_output() -> Iterator[None]:
    """Mask passwords, signatures and tokens in everything that is printed in the body, also by libraries."""
    stdout, stderr = (typing.cast(TextIO, _MaskedStream(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        yield


def _last_line(error: BaseException) -> str:
    """The last line of an error's text: a worker's error has its traceback above it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def parse(config_class: type[Config], argv: list[str], prog: str | None = None) -> Config:
    """The configuration from flags, which override the YAML file of `--config`, which overrides the defaults.

    Raises ConfigError for an unknown flag or YAML key, a value of the wrong type or out of range, and a missing
    required field.
    """
    return _parsed(config_class, argv, prog)[0]


def _parsed(config_class: type[Config], argv: list[str], prog: str | None) -> tuple[Config, str | None]:
    """The configuration, and the path given with `--config`."""
    kinds = typing.get_type_hints(config_class)
    flags = vars(_parser(config_class, prog).parse_args(argv))
    config_file = flags.pop("config", None)
    values = _read_yaml(config_file, list(kinds)) if config_file else {}
    values.update(flags)
    values = {key: convert(key, value, kinds[key]) for key, value in values.items()}
    values = {**RECIPES.get(values.get("recipe", ""), {}), **values}
    missing = [f.name for f in fields(config_class) if f.default is MISSING and f.name not in values]  # type: ignore[arg-type]
    if missing:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ConfigError(f"{names} must be given (as a flag or in --config); see --help")
    return config_class(**values), config_file


def _parser(config_class: type, prog: str | None) -> _Parser:
    """The parser of a job's flags; options of a mix-in are a group of their own in `--help`."""
    parser = _Parser(
        prog=prog,
        description=inspect.getdoc(config_class),
        formatter_class=argparse.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below; flags override it.")
    kinds, rules, docs = typing.get_type_hints(config_class), field_rules(config_class), field_docs(config_class)
    by_name = {field.name: field for field in fields(config_class)}
    for title, names in _titled_fields(config_class).items():
        group = parser.add_argument_group(title) if title else parser
        for name in names:
            field, kind, rule = by_name[name], kinds[name], rules.get(name)
            flag = f"--{name.replace('_', '-')}"
            text = help_text(docs[name], field.default, rule if typing.get_origin(kind) is not Literal else None)
            text = text.replace("%", "%%")
            if kind is bool:
                group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
            else:
                group.add_argument(flag, metavar=_metavar(kind), default=argparse.SUPPRESS, help=text)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError instead of printing its usage and exiting."""

    def error(self, message: str) -> typing.NoReturn:
        raise ConfigError(f"{message}; see --help")


def _titled_fields(config_class: type) -> dict[str, list[str]]:
    """The fields of a configuration by the heading of their mix-in; the job's own, without a heading, come first."""
    titles: dict[str, list[str]] = {}
    for owner in config_class.__mro__:
        title = "" if owner is config_class else (inspect.getdoc(owner) or "").split("\n")[0].rstrip(".")
        for field in fields(config_class):
            is_listed = any(field.name in names for names in titles.values())
            if field.name in vars(owner).get("__annotations__", {}) and not is_listed:
                titles.setdefault(title, []).append(field.name)
    return titles


def _metavar(kind: Any) -> str:
    """The placeholder for a flag's value: the choices, or the type."""
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    base = base_kind(kind)
    return "LIST" if base is tuple else str(base.__name__).upper()


def help_text(doc: str, default: Any, rule: Rule | None = None) -> str:
    """A field's help with its default and its range in brackets at the end.

    A text that ends in `(default: …)` already describes a default that depends on something else.
    """
    default_text = "required" if default is MISSING else f"default: {_shown(default)}"
    if doc.endswith(")") and "(default" in doc:
        doc, _, default_text = doc[:-1].rpartition(" (")
    notes = [default_text, *([rule.text] if rule is not None else [])]
    return f"{doc} ({'; '.join(notes)})"


def field_docs(config_class: type) -> dict[str, str]:
    """The string literal under each field of a dataclass and its bases, by field name."""
    docs: dict[str, str] = {}
    for cls in reversed(config_class.__mro__[:-1]):
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
        for statement, following in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                name = typing.cast(ast.Name, statement.target).id
                docs[name] = " ".join(str(typing.cast(ast.Constant, following.value).value).split())
    return docs


def write_run_config(config: Any, output: str) -> None:
    """Write the complete configuration, defaults included and credentials masked, as `run_config.yaml` in `output`."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    values = {key: _without_credentials(value) for key, value in values.items()}
    values.pop("take_over", None)  # holds for this submission only: reused with `--config` it would stop other jobs
    storage.publish_bytes(
        storage.join(output, "run_config.yaml"), yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
    )


def finish(config: Any, summaries: Mapping[str, dict[str, Any]] | None) -> int:
    """End of a job that writes runs: write its configuration, print the summary of each run by its location.

    `summaries` is None after a dry run, which writes nothing. Returns the exit code.
    """
    if summaries is not None:
        from vidclf.runs.summary import summary_text  # only the two jobs that write runs need it

        write_run_config(config, config.output)
        for run, summary in summaries.items():
            print(summary_text(run, summary))
    return EXIT_OK


def _without_credentials(value: Any) -> Any:
    """A value of a configuration with the credentials of its locations masked."""
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return credentials.masked(value) if isinstance(value, str) else value


def _read_yaml(path: str, known: list[str]) -> dict[str, Any]:
    """The values of a YAML file by field name; keys may be written with hyphens, like flags."""
    values = storage.read_yaml(path, "--config") or {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: must hold `key: value` lines, holds {type(values).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    check_known(values, known, lambda key: f"--config {path}: unknown key {key!r}")
    return values


def _shown(default: Any) -> str:
    """A default value in the notation of the command line."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default is None else str(default)
