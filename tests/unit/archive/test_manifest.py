"""Manifests from directories and lists of every format, and the message of every ConfigError."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidclf import schema, storage
from vidclf.archive import manifest
from vidclf.errors import ConfigError


def touch(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return str(root)


def rows(location: str | Path, **options: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = manifest.list_archive(str(location), **options).manifest.to_pylist()
    return listed


def column(location: str | Path, name: str, **options: Any) -> list[Any]:
    return [row[name] for row in rows(location, **options)]


def refusal(location: str | Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        manifest.list_archive(str(location), **options)
    return str(error.value)


def test_the_video_id_is_the_uuid5_of_the_location() -> None:
    assert manifest.video_id("/data/cat/a.mp4") == "4205c417-6c14-5a87-ade8-e4147a08f167"
    assert manifest.video_id("s3://bucket/a.mp4") == "f7eecf17-661f-5250-8e7b-00b39196ab7c"


@pytest.mark.parametrize(
    ("name", "split", "label", "sublabel"),
    [
        ("a.mp4", None, None, None),
        ("cat/a.mp4", None, "cat", None),
        ("cat/tabby/a.mp4", None, "cat", "tabby"),
        ("cat/tabby/2020/a.mp4", None, "cat", "tabby/2020"),
        ("train/cat/a.mp4", "train", "cat", None),
        ("val/cat/tabby/a.mp4", "val", "cat", "tabby"),
        ("cat/train/a.mp4", None, "cat", "train"),
    ],
)
def test_directories_are_read_as_split_label_and_sublabel(
    tmp_path: Path, name: str, split: str | None, label: str | None, sublabel: str | None
) -> None:
    (row,) = rows(touch(tmp_path, name))
    uri = f"{tmp_path}/{name}"
    identity = {"video_id": manifest.video_id(uri), "video_uri": uri, "group": uri, "size_bytes": 5}
    assert row == {**identity, "label": label, "sublabel": sublabel, "split": split}


def test_unlabelled_archives_may_be_laid_out_in_any_way(tmp_path: Path) -> None:
    listed = rows(touch(tmp_path, "a.mp4", "cat/b.mp4", "train/dog/c.mp4"), labelled=False)
    assert [(row["label"], row["sublabel"], row["split"]) for row in listed] == [(None, None, None)] * 3


def test_hidden_files_and_directories_inside_the_archive_are_passed_over(tmp_path: Path) -> None:
    listing = manifest.list_archive(touch(tmp_path / ".data", "cat/a.mp4", "cat/._a.mp4", ".c/b.mp4", ".h"))
    assert listing.manifest["video_uri"].to_pylist() == [f"{tmp_path}/.data/cat/a.mp4"]
    assert listing.ignored == {}


def test_files_that_are_no_videos_are_counted_by_extension(tmp_path: Path) -> None:
    listing = manifest.list_archive(touch(tmp_path, "c/a.mp4", "c/b.TXT", "c/d.txt", "c/e.jpg", "c/README"))
    assert listing.ignored == {"jpg": 1, "no extension": 1, "txt": 2}


def test_extensions_count_whatever_their_case_and_rows_are_sorted(tmp_path: Path) -> None:
    names = ["c/a.MP4", "c/b.Mkv", "c/d e ü\nf.webm", "d/a.m2ts"]
    assert column(touch(tmp_path, *reversed(names)), "video_uri") == [f"{tmp_path}/{name}" for name in names]


def test_one_video_is_an_archive_of_one(tmp_path: Path) -> None:
    assert column(f"{touch(tmp_path, 'a.mp4')}/a.mp4", "video_uri") == [f"{tmp_path}/a.mp4"]


def test_a_file_uri_gives_the_same_rows_as_the_path(tmp_path: Path) -> None:
    root = touch(tmp_path, "cat/a.mp4")
    assert rows(f"file://{root}") == rows(root)


NO_LOCATION = "names no video in any of video_uri, uri, path, filepath, url"
RECORDS = [{"path": "b.mp4", "label": "1", "split": "val"}, {"path": "/abs/007.mp4", "label": "02", "split": "train"}]


@pytest.mark.parametrize("extension", ["csv", "jsonl", "ndjson", "json", "parquet", "JSON"])
def test_a_list_of_any_format_gives_text_columns_and_paths_relative_to_the_list(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"list.{extension}"
    if extension == "csv":
        path.write_text("path,label,split\nb.mp4,1,val\n/abs/007.mp4,02,train\n")
    elif extension == "parquet":
        storage.publish_table(str(path), pa.Table.from_pylist(RECORDS))
    elif extension.lower() == "json":
        path.write_text(json.dumps(RECORDS))
    else:
        path.write_text("\n".join(json.dumps(record) for record in RECORDS) + "\n\n")
    listed = [(row["video_uri"], row["label"], row["split"]) for row in rows(path)]
    assert listed == [("/abs/007.mp4", "02", "train"), (f"{tmp_path}/b.mp4", "1", "val")]


def test_a_text_list_holds_one_location_a_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("sub/b c.mp4\n\ns3://bucket/ü.mp4\n../a.mp4\n")
    expected = [f"{tmp_path.parent}/a.mp4", f"{tmp_path}/sub/b c.mp4", "s3://bucket/ü.mp4"]
    assert column(tmp_path / "list.txt", "video_uri") == expected


def test_a_json_list_may_hold_plain_strings(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('["b.mp4", {"uri": "a.mp4"}]')
    assert column(tmp_path / "list.json", "video_uri") == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]


@pytest.mark.parametrize("extension", ["txt", "jsonl"])
@pytest.mark.parametrize("character", ["\u2028", "\u0085", "\x0c"])
def test_only_a_line_feed_ends_a_line_of_a_list(tmp_path: Path, extension: str, character: str) -> None:
    name = f"a{character}b.mp4"
    line = name if extension == "txt" else json.dumps({"uri": name}, ensure_ascii=False)
    (tmp_path / f"list.{extension}").write_bytes(line.encode() + b"\n")
    assert column(tmp_path / f"list.{extension}", "video_uri") == [f"{tmp_path}/{name}"]


@pytest.mark.parametrize("extension", ["txt", "jsonl", "csv", "json"])
def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path: Path, extension: str) -> None:
    content = {"txt": "a.mp4\n", "jsonl": '{"uri": "a.mp4"}\n', "csv": "uri\na.mp4\n", "json": '["a.mp4"]'}[extension]
    (tmp_path / f"list.{extension}").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert column(tmp_path / f"list.{extension}", "video_uri") == [f"{tmp_path}/a.mp4"]


@pytest.mark.parametrize("name", ["video_uri", "uri", "path", "filepath", "url"])
def test_the_location_column_goes_by_any_of_five_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.csv").write_text(f"label,{name}\ncat,a.mp4\n")
    assert column(tmp_path / "list.csv", "video_uri") == [f"{tmp_path}/a.mp4"]


def test_all_text_columns_of_a_list_are_kept_and_others_dropped(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,label,sublabel,group,split,colour\na.mp4,cat,tabby,tape 1,test,red\n")
    (row,) = rows(tmp_path / "list.csv")
    assert (row["label"], row["sublabel"], row["group"], row["split"]) == ("cat", "tabby", "tape 1", "test")
    assert row["size_bytes"] is None


def test_an_unlabelled_list_keeps_only_its_locations(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,label,split\na.mp4,cat,nonsense\nb.mp4,,\n")
    listed = rows(tmp_path / "list.csv", labelled=False)
    assert [(row["label"], row["split"]) for row in listed] == [(None, None)] * 2


def test_the_group_pattern_groups_within_label_and_sublabel(tmp_path: Path) -> None:
    root = touch(tmp_path, "cat/v_g01_c1.mp4", "cat/v_g01_c2.mp4", "dog/big/v_g01_c1.mp4", "dog/other.mp4")
    expected = ["cat:01", "cat:01", "dog:big:01", f"{tmp_path}/dog/other.mp4"]
    assert column(root, "group", group_pattern=r"_g(\d+)_") == expected


def test_the_group_pattern_does_not_see_the_extension(tmp_path: Path) -> None:
    assert column(touch(tmp_path, "cat/a.b.mp4"), "group", group_pattern=r"(\w+)$") == ["cat:b"]


def test_a_group_in_the_list_stands_before_the_pattern(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,group\ng1.mp4,tape\ng2.mp4,\n")
    assert column(tmp_path / "list.csv", "group", group_pattern=r"g(\d)") == ["tape", "2"]


@pytest.mark.parametrize("parameter", ["key", "policy", "auth", "sig"])
def test_videos_that_differ_only_in_a_masked_parameter_are_told_apart(tmp_path: Path, parameter: str) -> None:
    uris = [f"https://h/clip?{parameter}={value}" for value in (1, 2)] + ["https://h/other?key=1", "https://h/plain"]
    (tmp_path / "l.txt").write_text("\n".join(uris))
    listed = manifest.list_archive(str(tmp_path / "l.txt"), labelled=False).manifest
    assert listed["video_uri"].to_pylist() == uris
    ids, groups = listed["video_id"].to_pylist(), listed["group"].to_pylist()
    assert (len(set(ids)), len(set(groups))) == (4, 4)
    assert ids[2:] == [manifest.video_id("https://h/other?key=***"), manifest.video_id("https://h/plain")]
    assert groups[2:] == ["https://h/other?key=***", "https://h/plain"]
    assert all(group.startswith(f"https://h/clip?{parameter}=***#") for group in groups[:2])
    # A location and its id do not depend on the order of the list.
    (tmp_path / "l.txt").write_text("\n".join(reversed(uris)))
    assert manifest.list_archive(str(tmp_path / "l.txt"), labelled=False).manifest.equals(listed)


@pytest.mark.parametrize(
    "uris", [["https://h/c?key=1"] * 2, ["https://a:b@h/c?key=1", "https://a:d@h/c?key=1"], ["/a#1?x=2"] * 2]
)
def test_a_location_is_refused_when_only_the_user_differs_or_nothing(tmp_path: Path, uris: list[str]) -> None:
    (tmp_path / "l.txt").write_text("\n".join(uris))
    with pytest.raises(ConfigError, match=r"more than once; every video must be listed once"):
        manifest.list_archive(str(tmp_path / "l.txt"), labelled=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", '{"uri": "a.mp4"}', "must hold a list of videos, holds dict"),
        ("l.csv", "uri,label\na.mp4,x\n,x\n", f"row 2 {NO_LOCATION}"),
        (
            "l.csv",
            "name\na.mp4\n",
            "must have a column video_uri, uri, path, filepath, url, has 'name'; name it in the first line",
        ),
        ("l.json", "[3]", f"row 1 {NO_LOCATION}"),
        ("l.txt", "a.mp4\n./a.mp4\nb.mp4\n", "lists '{0}/a.mp4' more than once; every video must be listed once"),
        (
            "l.csv",
            "uri,label\na.mp4,x\nb.mp4,\nc.mp4,\nd.mp4,\ne.mp4,\n",
            "label must be given for every video or for none, is missing for "
            "'{0}/b.mp4', '{0}/c.mp4', '{0}/d.mp4' and 1 more; fill it in, or leave these videos out",
        ),
        (
            "l.csv",
            "uri,split\na.mp4,train\nb.mp4,\n",
            "split must be given for every video or for none, is missing for '{0}/b.mp4'; fill it in, or leave these "
            "videos out",
        ),
        (
            "l.csv",
            "uri,split\na.mp4,train\nb.mp4,sometimes\n",
            "split must be one of train, val, test, is not for '{0}/b.mp4'",
        ),
        ("l.txt", "\n\n", "holds no video (it is empty)"),
        ("l.json", "[]", "holds no video (it is empty)"),
        ("l.doc", "a.mp4", "must be a directory, a video or a list (csv, json, jsonl, ndjson, parquet, tsv, txt)"),
    ],
)
def test_a_list_at_fault_is_refused_with_its_message(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    assert refusal(tmp_path / name) == f"--input {tmp_path}/{name}: {message.format(tmp_path)}"


@pytest.mark.parametrize(
    ("name", "content"),
    [("l.json", b"[1,"), ("l.jsonl", b"{]"), ("l.parquet", b"PAR"), ("l.ndjson", b"[")],
)
def test_a_list_that_is_not_of_its_format_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(f"--input {tmp_path}/{name}: not readable as {name[2:]} (")


def test_a_directory_at_fault_is_refused_with_its_message(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"--input {tmp_path}: holds no video (it is empty)"
    assert refusal(tmp_path / "no") == f"--input {tmp_path}/no: no such directory or list file"
    touch(tmp_path, "a.jpg", "b.jpg", "README")
    ignored = "2 ignored with extension jpg, 1 ignored with extension no extension"
    assert refusal(tmp_path) == f"--input {tmp_path}: holds no video ({ignored})"
    touch(tmp_path, "cat/a.mp4", "b.mp4")
    assert refusal(tmp_path) == (
        f"--input {tmp_path}: label must be given for every video or for none, is missing for '{tmp_path}/b.mp4'; "
        "fill it in, or leave these videos out"
    )


def test_a_manifest_is_read_back_and_anything_else_refused(tmp_path: Path) -> None:
    table = manifest.list_archive(touch(tmp_path / "data", "cat/a.mp4")).manifest
    valid, incomplete, text = (str(tmp_path / name) for name in ("m.parquet", "o.parquet", "t.parquet"))
    storage.publish_table(valid, table)
    assert manifest.read_manifest(valid).equals(table)
    storage.publish_table(incomplete, table.drop_columns(["group"]))
    Path(text).write_text("text")
    with pytest.raises(ConfigError) as error:
        manifest.read_manifest(f"{tmp_path}/no")
    assert str(error.value) == f"--manifest {tmp_path}/no: no such file; `jobs/index.py` writes one"
    with pytest.raises(ConfigError) as error:
        manifest.read_manifest(incomplete)
    assert str(error.value) == (
        f"--manifest {incomplete}: not a manifest that jobs/index.py wrote ({incomplete}: columns missing ['group'], "
        "unexpected [])"
    )
    with pytest.raises(ConfigError, match=r"t\.parquet: not a manifest that jobs/index\.py wrote \("):
        manifest.read_manifest(text)


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    with open(os.fsencode(tmp_path) + b"/A/bad\xff.mp4", "wb") as file:
        file.write(b"x")
    name = f"b'{tmp_path}/A/bad\\xff.mp4'"
    with pytest.raises(ConfigError) as error:
        manifest.list_archive(str(tmp_path))
    assert str(error.value) == f"--input {tmp_path}: file names must be UTF-8, rename {name}"


def test_a_manifest_is_read_and_ids_stand_once(tmp_path: Path) -> None:
    videos = [{"video_id": str(number), "video_uri": f"/{number}", "group": "g"} for number in range(5)]
    location = str(tmp_path / "m.parquet")
    storage.publish_table(location, pa.Table.from_pylist(videos, schema=schema.MANIFEST))
    assert manifest.read_manifest(location)["video_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    storage.publish_table(location, pa.Table.from_pylist([*videos, videos[0]], schema=schema.MANIFEST))
    with pytest.raises(ConfigError, match=r"every video_id must be unique, 1 rows repeat one \(for one /0\)"):
        manifest.read_manifest(location)


def write_repeated(path: Path, row: dict[str, str], num_rows: int) -> str:
    """Write a small Parquet file that repeats one row: the format stores the value once, with a count."""
    piece = pa.table(
        {name: pa.DictionaryArray.from_arrays(np.zeros(10**6, np.int32), [text]) for name, text in row.items()}
    )
    with pq.ParquetWriter(path, piece.schema, compression="zstd") as writer:
        for _ in range(num_rows // 10**6):
            writer.write_table(piece, row_group_size=10**6)
    assert path.stat().st_size < 500_000
    return str(path)


def test_a_list_of_twenty_million_rows_in_half_a_megabyte_takes_no_memory(tmp_path: Path) -> None:
    location = write_repeated(tmp_path / "l.parquet", {"path": "/a.mp4", "label": "A" * 100}, 20 * 10**6)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=r"lists '/a\.mp4' more than once; every video must be listed once"):
        manifest.list_archive(location)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 150_000


def test_a_manifest_of_more_ids_than_its_size_can_hold_takes_no_memory(tmp_path: Path) -> None:
    location = write_repeated(tmp_path / "m.parquet", {"video_id": "0" * 36}, 20 * 10**6)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=r"must name each video once, holds 20000000 rows in \d+ bytes"):
        manifest.read_manifest(location)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 150_000
