"""Splits by source, with literal answers."""

from __future__ import annotations

import pytest

from vidclf.config import ConfigError
from vidclf.learning import splits

FRACTIONS = (0.6, 0.2, 0.2)


def test_no_source_crosses_splits_and_every_class_is_in_each() -> None:
    labels = ["A"] * 12 + ["B"] * 10
    groups = [f"a{i // 3}" for i in range(12)] + [f"b{i}" for i in range(10)]
    names = splits.assign(labels, groups, FRACTIONS, seed=0)
    for group in set(groups):
        assert len({name for name, g in zip(names, groups, strict=True) if g == group}) == 1
    for label in "AB":
        assert {name for name, own in zip(names, labels, strict=True) if own == label} == {"train", "val", "test"}
    assert [names[12:].count(name) for name in ("train", "val", "test")] == [6, 2, 2]


def test_larger_sources_are_dealt_first_to_the_split_that_lacks_most() -> None:
    # Wanted of 10 videos: 6, 2, 2. The source of 6 goes to train, the two of 2 to val and test.
    labels = ["A"] * 10
    groups = ["big"] * 6 + ["x"] * 2 + ["y"] * 2
    names = splits.assign(labels, groups, FRACTIONS, seed=1)
    assert names[:6] == ["train"] * 6
    assert sorted({names[6], names[8]}) == ["test", "val"]


def test_a_seed_gives_one_split_and_other_seeds_others() -> None:
    labels, groups = ["A"] * 20, [str(i) for i in range(20)]
    first = splits.assign(labels, groups, FRACTIONS, seed=0)
    assert first == splits.assign(labels, groups, FRACTIONS, seed=0)
    assert any(first != splits.assign(labels, groups, FRACTIONS, seed=seed) for seed in range(1, 4))


def test_a_share_of_zero_gives_no_such_split() -> None:
    names = splits.assign(["A"] * 4, ["1", "2", "3", "4"], (0.5, 0.0, 0.5), seed=0)
    assert sorted(names) == ["test", "test", "train", "train"]


def test_too_few_sources_are_named() -> None:
    with pytest.raises(ConfigError) as error:
        splits.assign(["A", "A", "A", "B"], ["1", "2", "3", "4"], FRACTIONS, seed=0)
    assert str(error.value) == (
        "--split: class 'B' must have at least 3 sources to be in train, val, test, has 1; "
        "add sources, or give a share of 0 to a split"
    )


def test_a_source_of_two_labels_is_named() -> None:
    with pytest.raises(ConfigError, match="group 'g' must hold one label, holds 'A' and 'B'"):
        splits.assign(["A", "B"], ["g", "g"], FRACTIONS, seed=0)
