"""A few videos of an archive are spread over its classes and splits."""

from __future__ import annotations

import pyarrow as pa

from vidclf.archive.limit import limited, spread


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


def rows_of(labels: list[str | None]) -> pa.Table:
    ids = list(map(str, range(len(labels))))
    return pa.table({"video_id": ids, "label": pa.array(labels, pa.string()), "split": pa.nulls(len(ids), pa.string())})


def test_the_choice_is_said_in_words_and_a_larger_limit_keeps_it() -> None:
    manifest = rows_of(["cat"] * 5 + ["dog"] * 5 + ["eel"])
    few, text = limited(manifest, 2)
    assert (few["video_id"].to_pylist(), text) == (
        ["0", "5"],
        "--limit: 2 of 11 videos, spread over 2 of 3 classes",
    )
    more, text = limited(manifest, 6)
    assert set(few["video_id"].to_pylist()) < set(more["video_id"].to_pylist())
    assert text == "--limit: 6 of 11 videos, spread over 3 classes"
    assert limited(manifest, 11) == (manifest, "")
    first, text = limited(rows_of([None] * 4), 2)
    assert first["video_id"].to_pylist() == ["0", "1"]
    assert text == "--limit: the first 2 of 4 videos; without labels they are not spread"
