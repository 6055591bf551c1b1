"""One form of each class name, and a refusal of classes that differ only in case or spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidclf.archive.label_spelling import canonical_name, check_spelling
from vidclf.archive.manifest import ListingOptions, list_archive
from vidclf.errors import ConfigError


def test_both_forms_of_an_accent_are_one_name() -> None:
    assert canonical_name("Cafe\u0301") == canonical_name(" Caf\u00e9\u00a0") == "Caf\u00e9"


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["cat", "cat", "Cat", None], "'Cat' (1 video) and 'cat' (2 videos)"),
        (
            ["ice cream", "icecream", "Ice  Cream"],
            "'Ice  Cream' (1 video) and 'ice cream' (1 video) and 'icecream' (1 video)",
        ),
        (["ice\u00a0cream", "ice cream"], "'ice cream' (1 video) and 'ice\\xa0cream' (1 video)"),
        (["STRASSE", "Straße"], "'STRASSE' (1 video) and 'Straße' (1 video)"),
        (
            [f"{name}{number}" for name in "aA" for number in range(4)],
            "'A0' (1 video) and 'a0' (1 video); 'A1' (1 video) and 'a1' (1 video); 'A2' (1 video) and 'a2' (1 video); "
            "and 1 more",
        ),
    ],
)
def test_classes_that_differ_only_in_case_or_spaces_are_named(labels: list[str | None], shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_spelling("/a", labels)
    assert str(error.value) == (
        f"--input /a: classes must differ in more than case and spaces, do not: {shown}; write each in one way, or "
        "keep them apart with --keep-label-spelling"
    )


def test_different_classes_are_no_fault() -> None:
    check_spelling("/a", ["cat", "cats", "ice-cream", "ice cream", None, "cat"])


def test_directories_of_classes_are_checked_too(tmp_path: Path) -> None:
    for name in ("Cat", "cat", "Cafe\u0301"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"'Cat' \(1 video\) and 'cat' \(1 video\)"):
        list_archive(str(tmp_path))
    manifest = list_archive(str(tmp_path), options=ListingOptions(keep_label_spelling=True)).manifest
    assert sorted(manifest["label"].to_pylist()) == ["Caf\u00e9", "Cat", "cat"]
    assert list_archive(str(tmp_path), labelled=False).manifest.num_rows == 3
