"""Shell completion of the command `vidclf`, tried in bash."""

from __future__ import annotations

import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from vidclf import command, completion
from vidclf.config import TrainConfig


@pytest.fixture(scope="module")
def bash_script() -> str:
    return completion.script("bash", command.summaries(), command.SHELLS)


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (["tr"], ["train"]),
        (["extract", "--sampl"], ["--sampling"]),
        (["extract", "--sampling", ""], ["uniform", "middle", "random", "keyframes"]),
        (["train", "--no-dry"], ["--no-dry-run"]),
        (["extract", "--manifest", "ma"], ["manifest.parquet"]),
        (["train", "--features", ""], ["features"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["--vers"], ["--version"]),
    ],
)
def test_bash_completes(words: list[str], proposed: list[str], bash_script: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").touch()
    (tmp_path / "features").mkdir()
    program = (
        f'{bash_script}\nCOMP_WORDS=(vidclf "$@"); COMP_CWORD=$#; COMPREPLY=()\n'
        '_shtab_vidclf; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert (done.stdout.split(), done.stderr) == (proposed, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells_hold_every_flag_of_a_job(shell: str) -> None:
    script = completion.script(shell, command.summaries(), command.SHELLS)
    for field in fields(TrainConfig):
        name = field.name.replace("_", "-")
        assert f"--{name}" in script or f"-l {name} " in script, name
