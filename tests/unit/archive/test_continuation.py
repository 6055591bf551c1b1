"""A grown, relabelled, moved or remounted archive: every known video keeps its id and its split."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import index
from vidclf import cli, schema, storage
from vidclf.archive import continuation, splits
from vidclf.archive.manifest import video_id
from vidclf.config import IndexConfig
from vidclf.errors import ConfigError
from vidclf.schema import SPLITS

SHARES = (0.7, 0.2, 0.1)


def row(uri: str, size: int | None = None, split: str | None = None, group: str | None = None) -> dict[str, object]:
    names = {"video_uri": uri, "label": "A", "group": group or uri, "split": split, "size_bytes": size}
    return {schema.VIDEO_ID: video_id(uri), **names}


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema.MANIFEST)


def archive(num_videos: int, clips: int) -> list[tuple[str, str, str]]:
    """Label, sublabel and source of each video, as many sources as `clips` videos each give."""
    draws = [random.Random(number // clips) for number in range(num_videos)]
    return [(f"c{draw.randrange(4)}", f"s{draw.randrange(3)}", f"g{draw.random()}") for draw in draws]


@pytest.mark.parametrize(
    ("num_old", "num_new", "clips"),
    [(50, 1, 1), (50, 2, 1), (50, 25, 1), (50, 50, 1), (1000, 1, 1), (1000, 1, 5), (1000, 500, 5), (4000, 4000, 5)],
)
def test_an_archive_that_grows_moves_no_source_and_keeps_its_shares(num_old: int, num_new: int, clips: int) -> None:
    rows = archive(num_old + num_new, clips)
    labels, sublabels, groups = (list(values) for values in zip(*rows, strict=True))
    old = splits.assign(labels[:num_old], sublabels[:num_old], groups[:num_old], SHARES, 0)
    kept = dict(zip(groups[:num_old], old, strict=True))
    new = splits.assign(labels, sublabels, groups, SHARES, 0, kept)
    assert new[:num_old] == old
    counts = Counter(new)
    assert [counts[name] / len(new) for name in SPLITS] == pytest.approx(SHARES, abs=0.02)
    if num_old > 50:  # every sublabel is spread
        for label in {(label, sublabel) for label, sublabel, _ in rows}:
            names = Counter(name for name, other in zip(new, rows, strict=True) if other[:2] == label)
            assert [names[name] / names.total() for name in SPLITS] == pytest.approx(SHARES, abs=0.1)


def test_a_new_class_still_needs_a_source_for_each_split() -> None:
    with pytest.raises(ConfigError, match="class 'B' must have at least 3 sources to be in train, val, test, has 1"):
        splits.assign(["A", "B"], [None, None], ["old", "new"], SHARES, 0, {"old": "test"})
    assert splits.assign(["A", "A"], [None, None], ["old", "new"], SHARES, 0, {"old": "test"}) == ["test", "train"]


def test_a_kept_split_stays_where_its_share_is_now_zero() -> None:
    names = splits.assign(["A"] * 3, [None] * 3, ["1", "2", "3"], (0.5, 0.5, 0.0), 0, {"1": "test"})
    assert names == ["test", *sorted(names[1:])]


def test_a_moved_file_keeps_its_id_and_split_and_a_file_at_its_old_place_is_new() -> None:
    before = table(row("/a/cat/1.mp4", 7, "test"), row("/a/cat/2.mp4", 8, "val"), row("/a/cat/3.mp4", 9, "train"))
    moved = continuation.continued(table(row("/a/dog/was_cat.mp4", 7), row("/a/cat/2.mp4", 8)), before)
    assert moved.manifest[schema.VIDEO_ID].to_pylist() == [video_id("/a/cat/1.mp4"), video_id("/a/cat/2.mp4")]
    assert moved.text == "2 known (1 of them at a new location), 0 new, 1 gone"
    assert continuation.kept_splits(moved.manifest, before) == {"/a/dog/was_cat.mp4": "test", "/a/cat/2.mp4": "val"}
    third = continuation.continued(table(row("/a/cat/1.mp4", 5), row("/a/dog/was_cat.mp4", 7)), moved.manifest)
    ids = third.manifest[schema.VIDEO_ID].to_pylist()
    assert ids[1] == video_id("/a/cat/1.mp4")
    assert len(set(ids)) == 2
    again = continuation.continued(table(row("/a/cat/1.mp4", 5), row("/a/dog/was_cat.mp4", 7)), third.manifest)
    assert again.manifest[schema.VIDEO_ID].to_pylist() == ids


def test_a_file_that_is_renamed_after_a_list_without_sizes_was_indexed_keeps_its_id() -> None:
    of_directory = table(row("/a/cat/1.mp4", 7), row("/a/cat/2.mp4", 8))
    of_list = continuation.continued(table(row("/a/cat/1.mp4"), row("/a/cat/2.mp4")), of_directory)
    assert of_list.manifest["size_bytes"].to_pylist() == [7, 8]
    moved = continuation.continued(table(row("/a/dog/was_cat.mp4", 7), row("/a/cat/2.mp4", 8)), of_list.manifest)
    assert moved.text == "2 known (1 of them at a new location), 0 new, 0 gone"


def test_files_of_one_size_are_told_apart_by_name_and_else_are_new() -> None:
    before = table(row("/a/cat/1.mp4", 7), row("/a/cat/2.mp4", 7), row("/a/cat/3.mp4"))
    named = continuation.continued(table(row("/a/dog/1.mp4", 7), row("/a/dog/2.mp4", 7)), before)
    assert named.manifest[schema.VIDEO_ID].to_pylist() == [video_id("/a/cat/1.mp4"), video_id("/a/cat/2.mp4")]
    renamed = continuation.continued(table(row("/a/dog/x.mp4", 7), row("/a/dog/y.mp4", 7), row("/a/3.mp4")), before)
    assert (renamed.num_new, renamed.num_gone) == (3, 3)


def test_an_archive_that_is_mounted_elsewhere_keeps_its_ids() -> None:
    before = table(row("/mnt/old/1.mp4", split="val"), row("/mnt/older/2.mp4", split="test"))
    found = continuation.continued(table(row("/nas/1.mp4"), row("/mnt/older/2.mp4")), before, "/mnt/old=/nas/")
    assert found.manifest[schema.VIDEO_ID].to_pylist() == before[schema.VIDEO_ID].to_pylist()
    with pytest.raises(ConfigError, match=r"^--root: no video .* is in /mnt/ol; one of them is /mnt/old/1.mp4$"):
        continuation.continued(table(row("/nas/1.mp4")), before, "/mnt/ol=/nas")
    with pytest.raises(ConfigError, match="--root must be OLD=NEW, two directories or URIs, got 'old'"):
        IndexConfig(input="a", output="m.parquet", root="old")


def test_signed_locations_of_one_file_keep_their_ids() -> None:
    ids = [video_id(f"https://h/clip.mp4#{number}") for number in (1, 2)]
    uris = [f"https://h/clip.mp4?key={number}&token=x{number}" for number in (1, 2)]
    before = table(*[{**row(uri), schema.VIDEO_ID: name} for uri, name in zip(uris, ids, strict=True)])
    assert continuation.continued(before, before).manifest.equals(before)


def test_a_source_joined_from_several_splits_goes_to_train_before_val_before_test() -> None:
    before = table(row("/1", split="test"), row("/2", split="val"), row("/3", split="train", group="film"))
    joined = table(row("/1", group="x"), row("/2", group="x"), row("/4", group="film"))
    assert continuation.kept_splits(joined, before) == {"x": "val", "film": "train"}


def test_index_keeps_the_splits_of_the_manifest_that_it_replaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(number: int, label: str) -> None:
        (tmp_path / "a" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / label / f"{number:02}.mp4").write_bytes(b"0" * (number + 1))

    def of(name: str) -> dict[str, str]:
        rows = storage.read_table(str(tmp_path / name)).to_pylist()
        return {str(row[schema.VIDEO_ID]): str(row["split"]) for row in rows}

    for number in range(40):
        make(number, "AB"[number % 2])
    output = str(tmp_path / "m.parquet")
    index.main(IndexConfig(input=str(tmp_path / "a"), output=output))
    old = of("m.parquet")
    make(41, "B")
    (tmp_path / "a/A/00.mp4").rename(tmp_path / "a/B/moved.mp4")
    (tmp_path / "a/A/02.mp4").unlink()
    capsys.readouterr()
    index.main(IndexConfig(input=str(tmp_path / "a"), output=output, overwrite=True))
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"  compared with {output}: 39 known (1 of them at a new location), 1 new, 1 gone"
    )
    new = of("m.parquet")
    assert {video: split for video, split in new.items() if video in old and old[video] != split} == {}
    assert len(new.keys() - old.keys()) == 1
    index.main(IndexConfig(input=str(tmp_path / "a"), output=str(tmp_path / "n.parquet"), continue_from=output))
    assert of("n.parquet") == new
    flags = [
        "--input",
        str(tmp_path / "a"),
        "--output",
        output,
        "--continue-from",
        "none",
        "--overwrite",
        "--seed",
        "3",
    ]
    index.main(cli.parse(IndexConfig, flags))
    assert of("m.parquet") != new
    with pytest.raises(ConfigError, match=r"--continue-from x.parquet: no such file; name a manifest of jobs/index.py"):
        index.main(IndexConfig(input=str(tmp_path / "a"), output=output, continue_from="x.parquet"))
    with pytest.raises(ConfigError, match="--root /o=/n: needs an earlier manifest of the archive"):
        index.main(IndexConfig(input=str(tmp_path / "a"), output=output, continue_from="none", root="/o=/n"))


@pytest.mark.parametrize(("num_old", "num_new"), [(48, 1), (48, 5), (1000, 1), (1000, 100), (10000, 10)])
def test_no_old_video_drifts_to_another_split(num_old: int, num_new: int) -> None:
    labels = [f"class {number % 4}" for number in (*range(num_old), *range(num_new))]
    names = [f"/a/{number % 4}/{number:05}.mp4" for number in range(num_old)]
    names += [f"/a/{number % 4}/{number * 7919 % 99991:05}x.mp4" for number in range(num_new)]
    old = splits.assign(labels[:num_old], [None] * num_old, names[:num_old], SHARES, 0)
    kept = dict(zip(names[:num_old], old, strict=True))
    assert splits.assign(labels, [None] * len(names), names, SHARES, 0, kept)[:num_old] == old
