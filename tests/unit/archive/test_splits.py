"""Splits by label, sublabel and source, with literal results."""

from __future__ import annotations

from collections import Counter

import pytest

from vidclf.archive import splits
from vidclf.errors import ConfigError
from vidclf.schema import SPLITS

FRACTIONS = (0.6, 0.2, 0.2)
DEFAULT = (0.7, 0.2, 0.1)


def counts(names: list[str], is_counted: list[bool]) -> list[int]:
    """Count the videos in train, val and test."""
    count = Counter(name for name, counted in zip(names, is_counted, strict=True) if counted)
    return [count[name] for name in SPLITS]


def test_no_source_crosses_splits_and_every_class_is_in_each() -> None:
    labels = ["A"] * 12 + ["B"] * 10
    groups = [f"a{i // 3}" for i in range(12)] + [f"b{i}" for i in range(10)]
    names = splits.assign(labels, [None] * 22, groups, FRACTIONS, seed=0)
    for group in set(groups):
        assert len({name for name, g in zip(names, groups, strict=True) if g == group}) == 1
    # Four sources of three videos: two to train, as 6 of 12 is nearer to 7.2 than 9 would leave the others.
    assert counts(names, [label == "A" for label in labels]) == [6, 3, 3]
    # Of 22 videos, 13.2, 4.4 and 4.4 are asked for: B makes up for what A lacks in train and has too much of in test.
    assert counts(names, [label == "B" for label in labels]) == [7, 2, 1]


def test_larger_sources_are_dealt_first_to_the_split_that_lacks_most() -> None:
    # The shares of 10 videos are 6, 2 and 2. The source of 6 goes to train, the two of 2 to val and test.
    groups = ["big"] * 6 + ["x"] * 2 + ["y"] * 2
    names = splits.assign(["A"] * 10, [None] * 10, groups, FRACTIONS, seed=1)
    assert names[:6] == ["train"] * 6
    assert sorted({names[6], names[8]}) == ["test", "val"]


def test_every_sublabel_is_spread_as_the_shares_say() -> None:
    # Without sublabels, the source with all 20 films would leave no other video for train.
    sublabels = ["film"] * 20 + ["drawn"] * 10 + ["made"] * 20
    groups = ["film"] * 20 + [f"d{i}" for i in range(10)] + [f"m{i}" for i in range(20)]
    names = splits.assign(["A"] * 50, sublabels, groups, DEFAULT, seed=0)
    assert {
        sublabel: counts(names, [other == sublabel for other in sublabels]) for sublabel in ("film", "drawn", "made")
    } == {"film": [20, 0, 0], "drawn": [7, 2, 1], "made": [14, 4, 2]}


def test_sublabels_of_few_sources_make_up_for_each_other() -> None:
    # On its own, each sublabel of three videos (shares 2.1, 0.6, 0.3) would round to 2, 1, 0 and leave test empty.
    sublabels = [f"s{i // 3}" for i in range(30)]
    names = splits.assign(["A"] * 30, sublabels, [str(i) for i in range(30)], DEFAULT, seed=0)
    assert counts(names, [True] * 30) == [21, 6, 3]
    for sublabel in set(sublabels):
        assert counts(names, [other == sublabel for other in sublabels]) in ([2, 1, 0], [2, 0, 1], [3, 0, 0])


def test_a_sublabel_of_one_source_goes_to_train_also_where_train_is_small() -> None:
    sublabels = ["one", "one", *["many"] * 10]
    names = splits.assign(["A"] * 12, sublabels, ["o", "o", *map(str, range(10))], (0.2, 0.4, 0.4), seed=0)
    assert names[:2] == ["train", "train"]
    assert counts(names[2:], [True] * 10) == [2, 4, 4]


def test_a_class_is_in_every_split_before_all_else() -> None:
    names = splits.assign(["A"] * 3, ["x", "y", "z"], ["1", "2", "3"], DEFAULT, seed=0)
    assert sorted(names) == ["test", "train", "val"]


def test_a_source_of_several_sublabels_or_classes_stays_whole() -> None:
    labels = ["A"] * 8 + ["B"] * 7
    sublabels = [*["x", "y"] * 4, *[None] * 7]
    groups = ["both", "both", "a0", "a1", "a2", "a3", "a4", "tv", "tv", "b0", "b1", "b2", "b3", "b4", "b5"]
    names = splits.assign(labels, sublabels, groups, FRACTIONS, seed=0)
    assert names[0] == names[1]
    assert names[7] == names[8]
    assert counts(names, [label == "A" for label in labels]) == [5, 2, 1]
    assert counts(names, [label == "B" for label in labels]) == [4, 1, 2]  # with A [9, 3, 3], exactly the shares of 15


def test_a_seed_gives_one_split_and_other_seeds_others() -> None:
    arguments = (["A"] * 20, ["x", "y"] * 10, [str(i) for i in range(20)], FRACTIONS)
    first = splits.assign(*arguments, seed=0)
    assert first == splits.assign(*arguments, seed=0)
    assert any(first != splits.assign(*arguments, seed=seed) for seed in range(1, 4))


def test_the_split_does_not_depend_on_the_order_of_the_videos() -> None:
    labels, groups = ["A"] * 9, [str(i) for i in range(9)]
    sublabels: list[str | None] = ["x", "y", "z"] * 3
    forwards = dict(zip(groups, splits.assign(labels, sublabels, groups, FRACTIONS, seed=0), strict=True))
    backwards = splits.assign(labels, sublabels[::-1], groups[::-1], FRACTIONS, seed=0)
    assert dict(zip(groups[::-1], backwards, strict=True)) == forwards


def test_a_share_of_zero_gives_no_such_split() -> None:
    names = splits.assign(["A"] * 4, [None] * 4, ["1", "2", "3", "4"], (0.5, 0.0, 0.5), seed=0)
    assert sorted(names) == ["test", "test", "train", "train"]


def test_too_few_sources_are_named() -> None:
    with pytest.raises(ConfigError) as error:
        splits.assign(["A", "A", "A", "B"], [None] * 4, ["1", "2", "3", "4"], FRACTIONS, seed=0)
    assert str(error.value) == (
        "--split: class 'B' must have at least 3 sources to be in train, val, test, has 1; "
        "add sources, or give a share of 0 to a split"
    )


def test_sources_that_tie_classes_together_are_named() -> None:
    # Each class has two sources, which must go to the two splits. But it shares each source with one of the
    # other two classes, in a ring of three.
    labels = ["A", "B", "B", "C", "C", "A"]
    groups = ["ab", "ab", "bc", "bc", "ca", "ca"]
    with pytest.raises(ConfigError, match=r"class '[ABC]' cannot be in (train|val), since its sources hold other"):
        splits.assign(labels, [None] * 6, groups, (0.5, 0.5, 0.0), seed=0)
    # A job without the option --split names the option that it has, and no remedy that needs fractions.
    with pytest.raises(ConfigError) as error:
        splits.assign(labels, [None] * 6, groups, (0.5, 0.5, 0.0), seed=0, option="--calibrate-with f")
    assert str(error.value).startswith("--calibrate-with f: class ")
    assert str(error.value).endswith("since its sources hold other classes too; add sources of this class alone")


def test_the_largest_source_is_tested_as_often_as_any() -> None:
    # A class with one source of 30 videos and 14 sources of 5 videos.
    groups = ["large"] * 30 + [f"s{i // 5}" for i in range(70)]
    drawn = [splits.assign(["A"] * 100, [None] * 100, groups, (0.7, 0.2, 0.1), seed)[0] for seed in range(600)]
    shares = {name: drawn.count(name) / 600 for name in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.7, "val": 0.2, "test": 0.1}, abs=0.05)


@pytest.mark.parametrize(
    ("num_videos", "expected"), [(50, [35, 10, 5]), (55, [39, 11, 5]), (60, [42, 12, 6]), (100, [70, 20, 10])]
)
def test_labels_of_one_size_are_not_all_rounded_alike(num_videos: int, expected: list[int]) -> None:
    # Each of four classes of 15 videos has shares of 10.5, 3 and 1.5. Rounded alike, train would have 40 or 44 of 60.
    labels = [f"c{number % 4}" for number in range(num_videos)]
    names = splits.assign(labels, [None] * num_videos, list(map(str, range(num_videos))), DEFAULT, seed=0)
    assert counts(names, [True] * num_videos) == expected
