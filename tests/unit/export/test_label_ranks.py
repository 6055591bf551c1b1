"""The list `label_next.csv` as an export reads it: ranks, labels since, and files that were edited by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audited_runs import write_audited_run
from vidclf.errors import ConfigError
from vidclf.export.rows import RunRows

REMEDY = "; run jobs/classify.py again with --label-next N, which classifies nothing again"


def ranks(run: str, text: str) -> dict[str, int]:
    Path(run, "label_next.csv").write_text(text)
    return dict(RunRows.read(run, only=["label-next"]).ranks)


def test_videos_that_have_a_label_since_are_left_out(tmp_path: Path) -> None:
    text = "rank,video_id,label\n1,v1,\n2,v0,\n"
    assert ranks(write_audited_run(tmp_path / "run"), text) == {"v1": 1, "v0": 2}
    labelled = write_audited_run(tmp_path / "labelled", labels={"v0": "A", "v2": "A"})
    assert ranks(labelled, text) == {"v1": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rank;video_id\n1;v1\n",
            " must have the columns rank and video_id, separated by commas; its first line gives rank;video_id",
        ),
        (
            "video_id,label\nv1,\n",
            " must have the columns rank and video_id, separated by commas; its first line gives video_id, label",
        ),
        ("", " must have the columns rank and video_id, separated by commas; its first line gives none"),
        ("rank,video_id\n1,v1\n,v0\n", " line 3: rank must be a whole number, is ''"),
        ("rank,video_id\n1.0,v1\n", " line 2: rank must be a whole number, is '1.0'"),
    ],
)
def test_a_list_edited_by_hand_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    run = write_audited_run(tmp_path / "run")
    with pytest.raises(ConfigError) as error:
        ranks(run, text)
    assert str(error.value) == f"--only label-next: {run}/label_next.csv{message}{REMEDY}"
