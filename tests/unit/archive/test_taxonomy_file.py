"""Renaming and grouping of labels and sublabels by a taxonomy file."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from vidclf import schema
from vidclf.archive.taxonomy_file import TaxonomyFile
from vidclf.cli import field_docs
from vidclf.config import IndexConfig
from vidclf.errors import ConfigError

PAIRS = [
    ("Sport", "soccer"),
    ("Sport", "tennis"),
    ("Sport", "chess"),
    ("Fitness", None),
    ("Musik", "rock"),
    ("Talk", None),
]

TAXONOMY = """
Games:
  ball: [Sport/soccer, Sport/tennis]
  other: [Sport, Fitness]
Music: [Musik]
"""


def archive(pairs: list[tuple[str | None, str | None]] | None = None) -> pa.Table:
    rows = [
        {"video_id": str(i), "video_uri": str(i), "label": label, "sublabel": sublabel, "group": str(i)}
        for i, (label, sublabel) in enumerate(PAIRS if pairs is None else pairs)
    ]
    return pa.Table.from_pylist(rows, schema.MANIFEST)


def taxonomy(directory: Path, text: str) -> TaxonomyFile:
    path = directory / "t.yaml"
    path.write_text(text)
    return TaxonomyFile.read(str(path))


def test_labels_are_renamed_and_grouped(tmp_path: Path) -> None:
    found, line = taxonomy(tmp_path, TAXONOMY).apply(archive(), keep_spelling=False)
    assert list(zip(found["label"].to_pylist(), found["sublabel"].to_pylist(), strict=True)) == [
        ("Games", "ball"),
        ("Games", "ball"),
        # The other videos of the label.
        ("Games", "other"),
        ("Games", "other"),
        # A class with a plain list keeps the sublabels.
        ("Music", "rock"),
        ("Talk", None),
    ]
    assert line == (f"taxonomy: 5 videos named by {tmp_path}/t.yaml, 1 keep their names; 3 classes and 3 sublabels")
    assert found["group"].to_pylist() == archive()["group"].to_pylist()
    assert found.schema == schema.MANIFEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[a]",
            "must be a mapping of classes to sublabels, and of sublabels to lists of names in the archive, got list",
        ),
        ("A: {a: [x], a: [y]}", "a: must stand once, stands in lines 1 and 1; join the entries"),
        ("A: {a: x}", "'A/a' must have a list of at least one name in the archive, got 'x'"),
        ("A: []", "'A' must have a list of at least one name in the archive, got \\[\\]"),
        ("A: {}", "class 'A' must have a sublabel or a list of names, has none"),
        ("A: {a: [x], b: [x]}", "every name must be given once, 'x' stands below 'A/a' and 'A/b'; remove one"),
        ("1: [x]", "a class must be text, got 1; put quotation marks around names such as 1 or yes"),
        ("A: {yes: [x]}", "a sublabel of 'A' must be text, got True"),
        ("A: {a: [2]}", "a name below 'A/a' must be text, got 2"),
    ],
)
def test_each_fault_of_the_file_has_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        taxonomy(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_name_that_the_archive_lacks_is_refused(tmp_path: Path) -> None:
    read = taxonomy(tmp_path, "Games: {ball: [Sport/golf]}")
    with pytest.raises(
        ConfigError, match="'Sport/golf' below 'Games/ball' must be a label or label/sublabel of the archi"
    ):
        read.apply(archive(), keep_spelling=False)
    with pytest.raises(ConfigError, match="needs an archive with labels, this one has none"):
        read.apply(archive([(None, None)]), keep_spelling=False)


def test_new_classes_that_differ_only_in_spelling_are_refused_unless_allowed(tmp_path: Path) -> None:
    read = taxonomy(tmp_path, "talk: [Musik]")
    with pytest.raises(ConfigError, match="classes must differ in more than case and spaces"):
        read.apply(archive(), keep_spelling=False)
    assert "talk" in read.apply(archive(), keep_spelling=True)[0]["label"].to_pylist()


def names(table: pa.Table) -> list[tuple[str | None, str | None]]:
    return list(zip(table["label"].to_pylist(), table["sublabel"].to_pylist(), strict=True))


def test_videos_without_a_label_pass(tmp_path: Path) -> None:
    read = taxonomy(tmp_path, "Music: [Musik]")
    found, line = read.apply(archive([(None, None), ("Musik", "rock"), ("Talk", None)]), keep_spelling=False)
    assert names(found) == [(None, None), ("Music", "rock"), ("Talk", None)]
    assert line == (
        f"taxonomy: 1 video named by {tmp_path}/t.yaml, 1 keep their names, 1 have no label; 2 classes and 1 sublabel"
    )
    with pytest.raises(ConfigError, match=r"its labels are Talk$"):
        read.apply(archive([(None, None), ("Talk", None)]), keep_spelling=False)


def test_what_is_renamed_already_is_not_renamed_again(tmp_path: Path) -> None:
    read = taxonomy(tmp_path, "Sport: {ball: [Sport/soccer], other: [Sport, Fitness]}\nMusic: [Musik]\nTalk: [Speech]")
    before = archive([("Sport", "ball"), ("Sport", "other"), ("Music", "rock"), ("News", None), (None, None)])
    after = archive([("Sport", "ball"), ("Sport", None), ("Music", "rock"), ("News", None), ("Fitness", None)])
    with pytest.raises(ConfigError, match="'Speech' below 'Talk' must be a label"):
        read.apply(after, keep_spelling=False, before=before, is_renamed=True)
    read = taxonomy(tmp_path, "Sport: {ball: [Sport/soccer], other: [Sport, Fitness]}\nMusic: [Musik]")
    found, _ = read.apply(after, keep_spelling=False, before=before, is_renamed=True)
    assert names(found) == [
        ("Sport", "ball"),
        ("Sport", "other"),
        ("Music", "rock"),
        ("News", None),
        ("Sport", "other"),
    ]


def test_the_examples_in_the_help_are_valid(tmp_path: Path) -> None:
    help_text = " ".join(field_docs(IndexConfig)["taxonomy"].split())
    examples = re.findall(r"'([^']+: [^']+)'", help_text)
    assert examples == ["Music: [Musik, Concerts]", "Sport: {ball games: [Sport/soccer, Sport/tennis]}"]
    assert sorted(taxonomy(tmp_path, "\n".join(examples)).targets) == [
        "Concerts",
        "Musik",
        "Sport/soccer",
        "Sport/tennis",
    ]
