"""The table of findings and its scripts agree. The scripts themselves need a package registry and do not run here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

FINDINGS = Path(__file__).resolve().parents[2] / "findings"
SCRIPTS = sorted(FINDINGS.glob("*.sh"))


def test_the_table_has_one_row_per_script() -> None:
    rows = [line for line in (FINDINGS / "README.md").read_text().splitlines() if line.startswith("| ")][1:]
    linked = [name for row in rows for name in re.findall(r"\[script\]\((\w+\.sh)\)", row)]
    assert sorted(linked) == [path.name for path in SCRIPTS]
    assert len(linked) == len(rows)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_pins_the_version_that_its_first_line_and_its_row_name(path: Path) -> None:
    text = path.read_text()
    row = next(line for line in (FINDINGS / "README.md").read_text().splitlines() if f"]({path.name})" in line)
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    pinned = set(re.findall(r"==([0-9][0-9.]*[0-9])", text))
    for place in (text.splitlines()[1], row.split("|")[1]):
        named = set(re.findall(r"\b[0-9]+\.[0-9]+(?:\.[0-9]+)+", place))
        assert named
        assert named <= pinned
