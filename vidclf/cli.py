"""From a configuration dataclass to flags, YAML keys, --help and exit codes."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import itertools
import sys
import textwrap
import typing
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar

import yaml

from vidclf import storage
from vidclf.config.fields import base_kind, convert
from vidclf.config.train import RECIPES
from vidclf.errors import ConfigError, ErrorBudgetExceeded, RunStopped

Config = TypeVar("Config")

EXIT_OK = 0

EXIT_DIFFERENCES = 1

EXIT_USAGE = 2

EXIT_ERROR_BUDGET = 3


def run(config_class: type[Config], job: Callable[[Config], int]) -> None:
    """Parse the command line into `config_class`, call `job` with it and exit with its code.

    A ConfigError, from parsing or from the job's own checks, is one line on stderr and exit code 2; a
    run that stopped before its end is one line, and 3 where too many videos failed, else 1; anything
    else that a job lets through is a bug or a broken cluster: traceback, exit code 1.
    """
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        code = job(parse(config_class, sys.argv[1:], prog=name))
    except ConfigError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        code = EXIT_USAGE
    except RunStopped as stopped:
        print(f"{name}: {stopped}", file=sys.stderr)
        code = EXIT_ERROR_BUDGET if isinstance(stopped, ErrorBudgetExceeded) else EXIT_DIFFERENCES
    sys.exit(code)


def parse(config_class: type[Config], argv: list[str], prog: str | None = None) -> Config:
    """A configuration from flags over `--config` YAML over defaults.

    Raises ConfigError for an unknown YAML key, a value of the wrong type, a missing required
    field; argparse itself exits with 2 on a malformed command line.
    """
    kinds = typing.get_type_hints(config_class)
    parser = _Parser(
        prog=prog,
        description=inspect.getdoc(config_class),
        formatter_class=argparse.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with any of the options below; flags override it")
    docs = field_docs(config_class)
    for field in fields(config_class):  # type: ignore[arg-type]
        flag = f"--{field.name.replace('_', '-')}"
        required = field.default is MISSING
        note = "required" if required else f"default: {_shown(field.default)}"
        text = docs[field.name] + ("" if "(default:" in docs[field.name] else f" ({note})")
        text = text.replace("%", "%%")
        if kinds[field.name] is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            kind = base_kind(kinds[field.name])
            metavar = "LIST" if kind is tuple else kind.__name__.upper()
            parser.add_argument(flag, metavar=metavar, default=argparse.SUPPRESS, help=text)
    given = vars(parser.parse_args(argv))
    config_file = given.pop("config", None)
    values = _read_yaml(config_file, list(kinds)) if config_file else {}
    values.update(given)
    values = {key: convert(key, value, kinds[key]) for key, value in values.items()}
    values = {**RECIPES.get(values.get("recipe", ""), {}), **values}
    missing = [f.name for f in fields(config_class) if f.default is MISSING and f.name not in values]  # type: ignore[arg-type]
    if missing:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ConfigError(f"{flags} must be given (as a flag or in --config); see --help")
    return config_class(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise ConfigError(f"{message}; see --help")


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
    """Write the resolved configuration as `run_config.yaml` beside a job's output."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    storage.publish_bytes(
        storage.join(output, "run_config.yaml"), yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
    )


def _read_yaml(path: str, known: list[str]) -> dict[str, Any]:
    values = storage.read_yaml(path, "--config") or {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: must hold `key: value` lines, holds {type(values).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise ConfigError(f"--config {path}: unknown key {key!r}{hint}")
    return values


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default is None else str(default)
