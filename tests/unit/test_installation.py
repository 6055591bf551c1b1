"""The directories jobs/ and tune_configs/ are found in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidclf import installation

ROOT = Path(__file__).resolve().parents[2]


def test_in_a_checkout_they_are_beside_the_package() -> None:
    assert installation.directory("jobs") == ROOT / "jobs"
    assert installation.program("train") == "python jobs/train.py"


def test_in_an_installed_package_they_are_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vidclf" / "bundled" / "jobs").mkdir(parents=True)
    (tmp_path / "jobs").mkdir()
    monkeypatch.setattr(installation, "PACKAGE", tmp_path / "vidclf")
    assert installation.directory("jobs") == tmp_path / "vidclf" / "bundled" / "jobs"
    assert installation.program("train") == "vidclf train"
