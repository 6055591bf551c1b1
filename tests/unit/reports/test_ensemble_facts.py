"""The ensemble of a run, found by the location in the run's own record."""

from __future__ import annotations

from pathlib import Path

from vidclf.reports.ensemble_facts import find_ensemble, member_names


def test_a_location_without_its_credentials_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "run_config.yaml").write_text("ensemble: s3://***@bucket/ensemble\n")
    assert find_ensemble(str(tmp_path), None, "e0") == (
        None,
        "the ensemble at s3://***@bucket/ensemble was read with credentials, which are not stored; give --ensemble",
    )


def test_the_votes_of_an_unknown_ensemble_are_not_called_members_since_one_may_be_the_linear_member() -> None:
    assert member_names(None, 3) == ["vote 0", "vote 1", "vote 2"]
