"""A few videos of an archive are spread over its classes and splits."""

from __future__ import annotations

from vidclf.archive.limit import spread


def test_every_class_gets_its_turn() -> None:
    labels = ["cat"] * 5 + ["dog"] * 5 + ["eel"]
    assert spread(labels, [None] * 11, 2) == [0, 5]
    assert spread(labels, [None] * 11, 6) == [0, 1, 2, 5, 6, 10]
    assert spread(labels, [None] * 11, 99) == list(range(11))


def test_every_split_of_a_class_gets_its_turn() -> None:
    labels, splits = ["cat"] * 6 + ["dog"] * 2, ["train"] * 4 + ["val", "test"] + ["train", "val"]
    assert spread(labels, splits, 5) == [0, 4, 5, 6, 7]


def test_without_classes_the_first_videos_are_taken() -> None:
    assert spread([None] * 4, [None] * 4, 2) == [0, 1]
