"""The ensemble of a run, found by the location in the run's own record."""

from __future__ import annotations

from pathlib import Path

from vidclf.reports.ensemble_facts import find_ensemble


def test_a_location_without_its_credentials_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "run_config.yaml").write_text("ensemble: s3://***@bucket/ensemble\n")
    assert find_ensemble(str(tmp_path), None, "e0") == (
        None,
        "the ensemble at s3://***@bucket/ensemble was read with credentials, which are not stored; give --ensemble",
    )
