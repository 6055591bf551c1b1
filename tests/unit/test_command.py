"""The command `vidclf`: its help from the docstrings of the jobs, its exit codes, and the jobs as subcommands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidclf import command

ROOT = Path(__file__).resolve().parents[2]


def test_the_help_lists_every_job_with_the_first_paragraph_of_its_docstring() -> None:
    lines = command.help_text(width=110).splitlines()
    assert lines[:4] == [
        "usage: vidclf JOB [FLAG …]",
        "",
        "  index       List the videos of an archive in a manifest (a table with one row per video), and split them",
        "              into train, val and test.",
    ]
    assert "  serve       Classify single videos over HTTP, with a web page for uploads." in lines
    assert [line.split()[0] for line in lines[2:-2] if line[2:3].strip()] == [*command.ORDER, "completion"]


def test_the_order_names_every_job() -> None:
    assert sorted(command.ORDER) == sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))
    assert list(command.jobs()) == list(command.ORDER)


def test_help_version_and_a_misspelt_job_import_nothing_slow() -> None:
    program = (
        "import sys\n"
        "from vidclf import command\n"
        "print([command.run([argument]) for argument in ('--help', '--version', 'extrat')], file=sys.stderr)\n"
        "slow = {'torch', 'ray', 'numpy', 'pyarrow', 'yaml', 'shtab', 'vidclf.config'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("\nvidclf 0.1.0\n")
    assert done.stderr.splitlines() == [
        "vidclf: error: no job is named 'extrat' (did you mean extract?); vidclf --help lists the jobs",
        "[0, 0, 2]",
        "[]",
    ]


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run([]) == 0
    assert capsys.readouterr().out.startswith("usage: vidclf JOB [FLAG …]\n")


def test_a_subcommand_runs_the_job_and_names_itself_in_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vidclf", "audit", "--run", "x", "--stail"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "vidclf audit: error: unrecognized arguments: --stail; see --help\n"


def test_the_help_of_a_subcommand_is_that_of_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["vidclf"])
    with pytest.raises(SystemExit) as stopped:
        command.run(["diff", "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: vidclf diff [-h] [--config FILE] [--before STR]")


@pytest.mark.parametrize(
    ("arguments", "shell", "got"),
    [
        (["ksh"], "/bin/bash", "'ksh'"),
        ([], "/bin/dash", "'dash'"),
        ([], "", "''"),
        (["bash", "zsh"], "/bin/bash", "'bash zsh'"),
    ],
)
def test_completion_refuses_other_shells(
    arguments: list[str], shell: str, got: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", shell)
    assert command.run(["completion", *arguments]) == 2
    assert capsys.readouterr().err == f"vidclf: error: vidclf completion needs one of bash, zsh, fish, got {got}\n"
