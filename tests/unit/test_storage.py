"""Canonical spelling of locations, and atomic publishing of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vidclf import storage
from vidclf.errors import ConfigError


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/data/a.mp4", "/data/a.mp4"),
        ("/data/./b/../a.mp4", "/data/a.mp4"),
        ("/data/dir/", "/data/dir"),
        ("file:///data/a.mp4", "/data/a.mp4"),
        ("s3://bucket/dir/a.mp4", "s3://bucket/dir/a.mp4"),
        ("/data/a b\nc ü.mp4", "/data/a b\nc ü.mp4"),
    ],
)
def test_canonical_gives_a_location_one_spelling(location: str, expected: str) -> None:
    assert storage.canonical(location) == expected


def test_canonical_takes_a_relative_path_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.canonical("a/../b.mp4") == f"{os.getcwd()}/b.mp4"


@pytest.mark.parametrize(
    ("location", "base", "expected"),
    [
        ("a.mp4", "/lists", "/lists/a.mp4"),
        ("../a.mp4", "/lists", "/a.mp4"),
        ("/data/a.mp4", "/lists", "/data/a.mp4"),
        ("a.mp4", "s3://bucket/lists", "s3://bucket/lists/a.mp4"),
        ("a.mp4", "s3://bucket/lists/", "s3://bucket/lists/a.mp4"),
        ("/data/a.mp4", "s3://bucket/lists", "/data/a.mp4"),
        ("gs://other/a.mp4", "s3://bucket/lists", "gs://other/a.mp4"),
    ],
)
def test_canonical_takes_a_relative_path_from_its_base(location: str, base: str, expected: str) -> None:
    assert storage.canonical(location, base=base) == expected


def test_canonical_expands_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.canonical("~/a.mp4") == "/home/someone/a.mp4"


def test_canonical_is_its_own_fixed_point() -> None:
    once = storage.canonical("some/../a.mp4")
    assert storage.canonical(once) == once


def test_a_scheme_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^nosuch://b/a\.mp4: not a location that can be opened \("):
        storage.resolve("nosuch://b/a.mp4")


def test_join_appends_to_paths_and_uris_alike() -> None:
    assert storage.join("/run", "quarantine", "part-0") == "/run/quarantine/part-0"
    assert storage.join("s3://bucket/run/", "a") == "s3://bucket/run/a"


def test_publish_creates_the_directories_and_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "dir" / "file.txt"
    storage.publish_bytes(str(target), b"whole")
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["file.txt"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_bytes(b"old")
    states: list[tuple[bytes, list[str]]] = []

    def write(stream: Any) -> None:
        stream.write(b"new")
        stream.flush()
        states.append((target.read_bytes(), sorted(os.listdir(tmp_path))))

    storage.publish(str(target), write)
    ((during, names),) = states
    assert during == b"old"
    assert len(names) == 2
    assert names[1].startswith("file.txt.")
    assert names[1].endswith(".tmp")
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError("disk on fire"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("old", [b"old", None], ids=["over a file", "over nothing"])
def test_a_writer_that_raises_leaves_the_old_content_and_no_temporary(
    tmp_path: Path, old: bytes | None, error: BaseException
) -> None:
    target = tmp_path / "file.txt"
    if old is not None:
        target.write_bytes(old)

    def write(stream: Any) -> None:
        stream.write(b"half of the ne")
        raise error

    with pytest.raises(type(error)):
        storage.publish(str(target), write)
    assert os.listdir(tmp_path) == ([] if old is None else ["file.txt"])
    assert old is None or target.read_bytes() == old


def test_json_is_published_with_its_order_and_read_back(tmp_path: Path) -> None:
    target = str(tmp_path / "a.json")
    storage.publish_json(target, {"b": 1, "a": [None, "x"]})
    assert Path(target).read_text() == '{\n  "b": 1,\n  "a": [\n    null,\n    "x"\n  ]\n}\n'
    assert storage.read_json(target) == {"b": 1, "a": [None, "x"]}


def test_a_table_is_published_and_single_columns_are_read_back(tmp_path: Path) -> None:
    target = str(tmp_path / "a.parquet")
    storage.publish_table(target, pa.table({"a": [1, 2], "b": ["x", "y"]}))
    assert storage.read_table(target).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    assert storage.read_table(target, ["b"]).to_pydict() == {"b": ["x", "y"]}
    assert [table.to_pydict() for table in storage.iter_tables([target, target], ["a"])] == [{"a": [1, 2]}] * 2


def test_a_file_by_an_earlier_version_gives_nulls_for_a_column_added_since(tmp_path: Path) -> None:
    location = str(tmp_path / "part-0.parquet")
    storage.publish_table(location, pa.table({"a": [1, 2], "b": ["x", "y"]}))
    columns = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("c", pa.float64())])
    (table,) = storage.iter_tables_of([location], columns)
    assert table.to_pydict() == {"a": [1, 2], "c": [None, None]}
    needed = pa.schema([pa.field("d", pa.int64(), nullable=False)])
    with pytest.raises(pa.ArrowInvalid, match=r"No match for FieldRef.Name\(d\)"):
        list(storage.iter_tables_of([location], needed))


def test_a_directory_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    target = str(tmp_path / "year=2020" / "a.parquet")
    storage.publish_table(target, pa.table({"a": [1]}))
    assert storage.read_table(target).column_names == ["a"]


def test_bytes_are_read_as_they_are_whatever_the_name_says(tmp_path: Path) -> None:
    (tmp_path / "not_really.gz").write_bytes(b"plain")
    assert storage.read_bytes(str(tmp_path / "not_really.gz")) == b"plain"


def test_files_are_listed_sorted_by_suffix_and_depth(tmp_path: Path) -> None:
    (tmp_path / "sub.txt").mkdir()
    for name in ("b.txt", "a.txt", "c.md", "sub.txt/d.txt"):
        (tmp_path / name).touch()
    root = str(tmp_path)
    assert storage.list_files(root) == [f"{root}/a.txt", f"{root}/b.txt", f"{root}/c.md"]
    assert storage.list_files(root, ".txt") == [f"{root}/a.txt", f"{root}/b.txt"]
    assert storage.list_files(root, "d.txt", recursive=True) == [f"{root}/sub.txt/d.txt"]
    assert storage.list_files(f"{root}/absent") == []


def test_existence_and_deletion(tmp_path: Path) -> None:
    directory, file = str(tmp_path / "dir"), str(tmp_path / "dir" / "file")
    storage.create_dir(directory)
    storage.publish_bytes(file, b"")
    assert [storage.exists(directory), storage.is_dir(directory)] == [True, True]
    assert [storage.exists(file), storage.is_dir(file)] == [True, False]
    storage.delete_file(file)
    assert not storage.exists(file)
    storage.delete_tree(directory)
    storage.delete_tree(directory)
    assert not storage.exists(directory)
    assert not storage.is_dir(directory)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/plain.mp4", "bucket/plain.mp4"),
        ("s3://bucket/a b#1 100%20?.mp4", "bucket/a b#1 100%20?.mp4"),
        ("s3://bucket/über\n.mp4", "bucket/über\n.mp4"),
        ("s3://bucket", "bucket"),
    ],
)
def test_a_key_may_hold_any_character(uri: str, path: str) -> None:
    # A region, because without one the library asks the network for the bucket's.
    assert storage.resolve(f"{uri}?region=eu-west-1&scheme=http")[1] == path


@pytest.mark.parametrize(
    ("location", "path", "expected"),
    [
        ("s3://bucket/a", "bucket/a/b c?.mp4", "s3://bucket/a/b c?.mp4"),
        ("s3://bucket/a?region=eu-west-1", "bucket/a/b.mp4", "s3://bucket/a/b.mp4?region=eu-west-1"),
        (
            "s3://bucket?scheme=http&endpoint_override=h:9000",
            "bucket/b.mp4",
            "s3://bucket/b.mp4?scheme=http&endpoint_override=h:9000",
        ),
        ("/archive", "/archive/b.mp4", "/archive/b.mp4"),
    ],
)
def test_a_listed_path_keeps_the_options_of_its_archive(location: str, path: str, expected: str) -> None:
    assert storage.sibling(location, path) == expected
