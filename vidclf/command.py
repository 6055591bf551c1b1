"""The command `vidclf`, which `pip install` creates: one subcommand per job, `--version` and shell completion.

`vidclf extract …` runs the same file as `python jobs/extract.py …`. `vidclf --help` takes its lines from the docstrings
of these files and imports none of them, so that it takes no longer than the start of Python.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import vidclf
from vidclf import installation

ORDER = (
    *("index", "plan", "extract", "train", "tune", "classify", "audit", "evaluate", "diff", "export"),
    *("quantize", "serve"),
)
"""Jobs in the order in which a user needs them, for `--help`."""

SHELLS = ("bash", "zsh", "fish")
"""Shells for which `vidclf completion` prints a script."""

EXIT_USAGE = 2
"""Exit code for an unknown job or shell, as for an unknown flag of a job."""


def main() -> None:
    """Run the command with the arguments of this process, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with these arguments. Returns the exit code; a job ends with SystemExit instead."""
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-h", "help"):
        print(help_text(shutil.get_terminal_size().columns))
    elif name in ("--version", "-V"):
        print(f"vidclf {vidclf.__version__}")
    elif name == "completion":
        return _print_completion(rest)
    elif name in jobs():
        _run_job(name, rest)
    else:
        return _refuse(f"no job is named {name!r}{_suggestion(name)}; vidclf --help lists the jobs")
    return 0


def jobs() -> dict[str, Path]:
    """Files of the jobs by name, in the order of `ORDER`."""
    paths = {path.stem: path for path in installation.directory("jobs").glob("*.py")}
    return {name: paths[name] for name in sorted(paths, key=[*ORDER, *sorted(paths)].index)}


def summary(path: Path) -> str:
    """First paragraph of the docstring of a job's file, as one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"
    return " ".join(docstring.split("\n\n")[0].split())


def summaries() -> dict[str, str]:
    """Line of help for each job, by its name, in the order of `ORDER`."""
    return {name: summary(path) for name, path in jobs().items()}


def help_text(width: int) -> str:
    """Text of `vidclf --help`, wrapped to `width` characters: every job with the first paragraph of its docstring."""
    lines = summaries()
    lines["completion"] = f"Print the script with which a shell ({', '.join(SHELLS)}) completes jobs, flags and values."
    indent = max(map(len, lines)) + 4
    wrapped = [
        textwrap.fill(
            line,
            max(width, indent + 40),
            initial_indent=f"  {name}".ljust(indent),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        for name, line in lines.items()
    ]
    return "\n".join(
        [
            "usage: vidclf JOB [FLAG …]",
            "",
            *wrapped,
            "",
            "vidclf JOB --help lists the flags of a job, vidclf --version prints the version.",
        ]
    )


def _run_job(name: str, arguments: list[str]) -> None:
    """Run the file of a job as the main program, with `vidclf NAME` as the program's name in its messages."""
    sys.argv = [f"vidclf {name}", *arguments]
    spec = spec_from_file_location("__main__", jobs()[name])
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))


def _print_completion(arguments: list[str]) -> int:
    """Print the completion script for the shell in `arguments`, without one for that of $SHELL. Returns the exit
    code."""
    shell = arguments[0] if arguments else os.path.basename(os.environ.get("SHELL", ""))
    if len(arguments) > 1 or shell not in SHELLS:
        got = " ".join(arguments) or shell
        return _refuse(f"vidclf completion needs one of {', '.join(SHELLS)}, got {got!r}")
    from vidclf.completion import script  # imported here: it imports the configuration classes, which takes a second

    print(script(shell, summaries(), SHELLS))
    return 0


def _suggestion(name: str) -> str:
    """The text `, did you mean …?` with the most similar name of a job; empty if there is none."""
    from difflib import get_close_matches

    similar = get_close_matches(name, [*jobs(), "completion"], n=1)
    return f" (did you mean {similar[0]}?)" if similar else ""


def _refuse(message: str) -> int:
    """Print an error as one line on standard error. Returns the exit code."""
    print(f"vidclf: error: {message}", file=sys.stderr)
    return EXIT_USAGE
