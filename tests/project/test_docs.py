"""Commands, flags, links and file names on the documentation pages are valid."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from vidclf import cli
from vidclf import config as config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MANIFESTS = [ROOT / "cluster.yaml", *sorted((ROOT / "deploy").glob("*.yaml"))]
CONFIGS = {path.stem: getattr(config, f"{path.stem.capitalize()}Config") for path in (ROOT / "jobs").glob("*.py")}
OF_OTHER_TOOLS = {
    *("--address", "--head", "--num-cpus", "--num-gpus", "--port", "--runtime-env-json", "--working-dir"),
    "--version",  # of the command vidclf itself
}
"""Flags of other programs that the pages mention."""


def commands(path: Path) -> list[list[str]]:
    """Name of the job and arguments of every `python jobs/….py` and `vidclf …` on a page; `…` and `[…]` mean omitted
    arguments."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    matches = re.findall(r"python (?:/home/ray/vidclf/)?jobs/(\w+)\.py([^\n`]*)", text)
    matches += re.findall(rf"\bvidclf ({'|'.join(CONFIGS)}) (-[^\n`]*)", text)
    return [[job, *shlex.split(rest, comments=True)] for job, rest in matches]


@pytest.mark.parametrize("path", [*PAGES, *MANIFESTS], ids=lambda path: path.name)
def test_commands_are_of_jobs_and_flags_that_exist(path: Path) -> None:
    for job, *arguments in commands(path):
        known = {f"--{field.name.replace('_', '-')}" for field in fields(CONFIGS[job])} | {"--config"}
        assert {word for word in arguments if word.startswith("--")} <= known


@pytest.mark.parametrize("path", [page for page in PAGES if ROOT / "docs" in page.parents], ids=lambda path: path.name)
def test_commands_of_the_documentation_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_read_yaml", lambda path, known: {})
    for job, *arguments in commands(path):
        if "…" not in arguments:
            cli.parse(CONFIGS[job], arguments)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_flags_in_the_text_exist(path: Path) -> None:
    known = {f"--{field.name.replace('_', '-')}" for kind in CONFIGS.values() for field in fields(kind)}
    known |= {f"--no-{flag[2:]}" for flag in known} | {"--config", "--help"} | OF_OTHER_TOOLS
    mentioned = {
        flag for code in re.findall(r"`[^`\n]+`", path.read_text()) for flag in re.findall(r"(?<!\S)--[a-z-]+", code)
    }
    assert mentioned <= known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if link and not (path.parent / link).exists()] == []
    file_names = re.findall(r"`((?:vidclf|jobs|tests|deploy|docs|examples|benchmarks)/[\w./-]+\.\w+)`", text)
    assert [name for name in file_names if not (ROOT / name).exists()] == []
