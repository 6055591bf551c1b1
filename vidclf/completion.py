"""Scripts with which a shell completes the command `vidclf`: jobs, flags, file names, and values from a closed list.

The scripts are made by the library shtab from the parsers of all jobs. They are static: a shell starts no Python to
complete a word. After an update of vidclf they must be printed again.
"""

from __future__ import annotations

import argparse
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import shtab

from vidclf import cli, preflight
from vidclf import config as configs


def script(shell: str, summaries: Mapping[str, str], shells: Sequence[str]) -> str:
    """The completion script for `shell`.

    `summaries` holds the line of help for each job, by its name; `shells` are the values of `vidclf completion`.
    """
    return str(shtab.complete(parser(summaries, shells), shell)).rstrip()


def parser(summaries: Mapping[str, str], shells: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that describes the whole command line of `vidclf`. It parses nothing: every job has its own parser."""
    root = argparse.ArgumentParser(prog="vidclf")
    root.add_argument("--version", action="version", version="")
    subparsers = root.add_subparsers()
    for name, summary in summaries.items():
        config_class = getattr(configs, f"{name.capitalize()}Config")
        of_job = cli.flag_parser(config_class, f"vidclf {name}")
        _describe_values(of_job, config_class)
        subparsers.add_parser(name, parents=[of_job], add_help=False, help=summary)
    completion = subparsers.add_parser("completion", help="Print the completion script of a shell.")
    completion.add_argument("shell", choices=shells)
    return root


def _describe_values(of_job: argparse.ArgumentParser, config_class: type) -> None:
    """Add to every flag of a job's parser which values shtab may propose: its choices, files or directories."""
    kinds = typing.get_type_hints(config_class)
    locations = {**preflight.INPUTS, **preflight.OUTPUTS.get(config_class, {}), "config": preflight.FILE}
    for action in of_job._actions:  # argparse has no public list of them; shtab reads it too
        if typing.get_origin(kinds.get(action.dest)) is Literal:
            action.choices = typing.get_args(kinds[action.dest])
        elif action.dest in locations:
            described: Any = action  # shtab looks for an attribute of its own
            described.complete = shtab.DIRECTORY if locations[action.dest] == preflight.DIRECTORY else shtab.FILE
