"""The file of labels in words: what it holds, and one line per fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidclf.errors import ConfigError
from vidclf.words.labels import read_labels


def read(tmp_path: Path, text: str) -> dict[str, tuple[str, ...]]:
    file = tmp_path / "labels.yaml"
    file.write_text(text)
    return read_labels(str(file))


def test_descriptions_are_one_text_or_a_list(tmp_path: Path) -> None:
    text = "cooking: a video  of someone\n  cooking\n' football ': [a match, people on a field]\n"
    labels = read(tmp_path, text)
    assert labels == {"cooking": ("a video of someone cooking",), "football": ("a match", "people on a field")}
    assert list(labels) == ["cooking", "football"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold `label: description` lines, holds NoneType"),
        ("- a\n- b\n", "must hold `label: description` lines, holds list"),
        ("a: b\n", "must hold between 2 and 4096 labels, holds 1"),
        ("a: b\nyes: c\n", "a label must be text, got True (bool); write it in quotation marks"),
        ("a: b\n'': c\n", "a label must not be empty, got ''"),
        ("a: b\nc:\n", "c: a description must be text, or a list of texts, got nothing; write it in quotation marks"),
        (
            "a: b\nc: 7\n",
            "c: a description must be text, or a list of texts, got 7 (int); write it in quotation marks",
        ),
        ("a: b\nc: []\n", "c: must have at least one description, has an empty list"),
        ("a: b\nc: [d, ' ']\n", "c: a description must not be empty, got ' '"),
        (
            "a: [b, c]\nd: c\n",
            "d: each description must stand once in the file, 'c' stands under 'a' too; describe what tells them apart",
        ),
        ("a: b\nc: d\na: e\n", "a: must stand once, stands in lines 1 and 3; join the entries"),
        ("a: b\n' a': c\n", "must name each label once, apart from spaces around it"),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert str(error.value) == f"--labels {tmp_path}/labels.yaml: {message}"


def test_a_file_that_is_no_yaml_or_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--labels .*labels.yaml: not YAML \("):
        read(tmp_path, "a: [")
    with pytest.raises(ConfigError, match=r"^--labels must be a readable YAML file, got '/none.yaml'"):
        read_labels("/none.yaml")
