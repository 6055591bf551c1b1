"""Differences between the rows of an output and those of a run, for each mode."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vidclf.errors import ConfigError
from vidclf.export.change import Change, Present, change


def present(*keys: str) -> Present:
    """Rows named `run video ensemble`."""
    rows = [dict(zip(("run_id", "video_id", "ensemble_id"), key.split(), strict=True)) for key in keys]
    types = pa.schema([(name, pa.string()) for name in ("run_id", "video_id", "ensemble_id")])
    return Present.of(pa.Table.from_pylist(rows, types))


NOTHING = Change(set(), set())


@pytest.mark.parametrize("mode", ["append", "replace-by-video", "new-snapshot"])
def test_an_empty_output_gets_all_rows_and_the_same_run_changes_nothing(mode: str) -> None:
    first = change(mode, {"a", "b"}, "r", "e", Present(), "out")  # type: ignore[arg-type]
    assert first == Change({"a", "b"}, set())
    again = change(mode, {"a", "b"}, "r", "e", present("r a e", "r b e"), "out")  # type: ignore[arg-type]
    assert again == NOTHING
    assert again.is_nothing


def test_append_adds_the_videos_that_are_missing_and_keeps_other_ensembles() -> None:
    there = present("r a e", "x b other")
    assert change("append", {"a", "b", "c"}, "r", "e", there, "out") == Change({"b", "c"}, set())


def test_append_refuses_other_rows_of_the_same_ensemble() -> None:
    with pytest.raises(ConfigError) as refused:
        change("append", {"a", "b"}, "r2", "e", present("r a e", "r b e", "r c e"), "out")
    assert str(refused.value) == (
        "--output out: has other rows of 2 of these videos by the same ensemble (for one a), from another run or with "
        "other columns; --mode replace-by-video replaces them"
    )


def test_replace_by_video_removes_only_what_differs() -> None:
    there = present("r a e", "x a other", "x b other", "r c e", "x d other")
    assert change("replace-by-video", {"a", "b", "c", "n"}, "r", "e", there, "out") == Change(
        {"a", "b", "n"}, {"a", "b"}
    )


def test_a_new_snapshot_holds_the_run_alone() -> None:
    there = present("r a e", "r b e", "x c e")
    assert change("new-snapshot", {"a", "b"}, "r", "e", there, "out") == Change({"a", "b"}, set(), removes_all=True)
    assert change("new-snapshot", set(), "r", "e", there, "out") == Change(set(), set(), removes_all=True)
