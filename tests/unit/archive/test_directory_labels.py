"""Splits by every usual word, and a question where it is unclear whether a directory is a split or a class."""

from __future__ import annotations

import pytest

from vidclf.archive.directory_labels import labels_of
from vidclf.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("training", "validation", "testing"), ("train", "val", "test")),
        (("Train", "Valid", "TEST"), ("train", "val", "test")),
        (("TRAINING", "dev", "Testing"), ("train", "val", "test")),
    ],
)
def test_splits_go_by_every_usual_word_in_any_case(words: tuple[str, ...], expected: tuple[str, ...]) -> None:
    rows = labels_of("/a", [f"{word}/{label}/v.mp4" for word in words for label in ("cat", "dog")])
    assert [(row["split"], row["label"], row["sublabel"]) for row in rows] == [
        (split, label, None) for split in expected for label in ("cat", "dog")
    ]


@pytest.mark.parametrize(
    ("relatives", "message"),
    [
        (
            ["cat/v.mp4", "validation/v.mp4"],
            "'validation' stands beside 'cat': is 'validation' a split or a class? Leave out what is no split "
            "(--exclude 'cat'), or take all of them as classes with --split-directories never",
        ),
        (
            ["train/cat/v.mp4", "eval/cat/v.mp4"],
            "'train' stands beside 'eval': is 'train' a split or a class? Leave out what is no split (--exclude "
            "'eval'), or take all of them as classes with --split-directories never",
        ),
        (
            ["dev/cat/v.mp4", "train/cat/v.mp4", "val/cat/v.mp4"],
            "'dev' and 'val' both mean the split val: which one is it? Leave out the other (--exclude 'val'), or take "
            "all of them as classes with --split-directories never",
        ),
        (
            ["Train/cat/v.mp4", "train/cat/v.mp4"],
            "'Train' and 'train' both mean the split train: which one is it? Leave out the other (--exclude 'train'), "
            "or take all of them as classes with --split-directories never",
        ),
        (
            ["cat/train/v.mp4", "cat/val/v.mp4"],
            "'train' stands below 'cat': is it a split or a sublabel? Move splits above the labels, or take them as "
            "sublabels with --split-directories never",
        ),
    ],
)
def test_an_unclear_layout_is_a_question(relatives: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        labels_of("/a", relatives)
    assert str(error.value) == f"--input /a: {message}"
    first = labels_of("/a", relatives, find_splits=False)[0]
    assert (first["split"], first["label"]) == (None, relatives[0].split("/")[0])
