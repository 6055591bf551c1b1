"""Lists of videos as other programs write them: read as meant, or refused in one line with the remedy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidclf.archive.manifest import Listing, ListingOptions, list_archive
from vidclf.errors import ConfigError

CAT_AND_DOG = [("/data/cat/0.mp4", "cat"), ("/data/dog/1.mp4", "dog")]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def listing(path: Path, **options: Any) -> Listing:
    return list_archive(str(path), options=ListingOptions(**options))


def pairs(path: Path) -> list[tuple[str, str | None]]:
    table = listing(path).manifest
    return list(zip(table["video_uri"].to_pylist(), table["label"].to_pylist(), strict=True))


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        listing(path)
    return str(error.value).removeprefix(f"--input {path}: ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "path;label\r\n/data/cat/0.mp4;cat\r\n/data/dog/1.mp4;dog\r\n"),
        ("l.csv", "path\tlabel\n/data/cat/0.mp4\tcat\n/data/dog/1.mp4\tdog\n"),
        ("l.tsv", "path\tlabel\n/data/cat/0.mp4\tcat\n/data/dog/1.mp4\tdog\n"),
        ("l.csv", "path|label\n/data/cat/0.mp4|cat\n/data/dog/1.mp4|dog\n"),
        ("l.csv", "sep=;\r\npath;label\r\n/data/cat/0.mp4;cat\r\n/data/dog/1.mp4;dog\r\n"),
        ("l.csv", "path, label\n/data/cat/0.mp4, cat \n/data/dog/1.mp4, dog\n"),
        ("l.csv", " Path , LABEL\n/data/cat/0.mp4 ,cat\n\n/data/dog/1.mp4,dog\n ,\n"),
        ("l.csv", '"Path","Label"\n"/data/cat/0.mp4","cat"\n"/data/dog/1.mp4", "dog"\n'),
        ("l.csv", "path,label,\n/data/cat/0.mp4,cat,\n/data/dog/1.mp4,dog,,\n"),
        ("l.csv", "/data/cat/0.mp4,cat\n/data/dog/1.mp4,dog\n"),
        ("l.csv", "cat;/data/cat/0.mp4\ndog;/data/dog/1.mp4\n"),
        ("l.txt", "/data/cat/0.mp4 cat\n/data/dog/1.mp4 dog\n"),
        ("l.txt", "/data/cat/0.mp4\tcat\n/data/dog/1.mp4\tdog\n"),
        ("l.txt", "/data/cat/0.mp4, cat\n/data/dog/1.mp4, dog\n"),
        ("l.txt", '"/data/cat/0.mp4" cat\n"/data/dog/1.mp4" "dog"\n'),
        ("l.txt", "Path,Label\n/data/cat/0.mp4,cat\n/data/dog/1.mp4,dog\n"),
        ("l.txt", "path label\n/data/cat/0.mp4 cat\n/data/dog/1.mp4 dog\n"),
        ("l.json", '[{"Path": "/data/cat/0.mp4", "Label ": "cat"}, {"path": "/data/dog/1.mp4", "label": "dog"}]'),
        ("l.jsonl", '{"URI": " /data/cat/0.mp4 ", "label": "cat"}\n{"uri": "/data/dog/1.mp4", "label": " dog"}\n'),
    ],
)
def test_a_table_is_read_whatever_its_separator_and_header(tmp_path: Path, name: str, content: str) -> None:
    assert pairs(write(tmp_path / name, content)) == CAT_AND_DOG


@pytest.mark.parametrize(
    "content",
    [
        "/data/cat/0.mp4 \n /data/dog/1.mp4\r\n",
        '"/data/cat/0.mp4"\n"/data/dog/1.mp4"\n',
        'path\n/data/cat/0.mp4\n"/data/dog/1.mp4"\n',
    ],
)
def test_spaces_and_quotation_marks_around_a_line_are_no_part_of_it(tmp_path: Path, content: str) -> None:
    assert [uri for uri, _ in pairs(write(tmp_path / "l.txt", content))] == [uri for uri, _ in CAT_AND_DOG]


def test_spaces_inside_a_path_stay_and_a_file_may_end_in_one(tmp_path: Path) -> None:
    (tmp_path / "b.mp4 ").write_bytes(b"1")
    path = write(tmp_path / "l.txt", "my clip 1.mp4\nb.mp4 \na.mp4 b.mp4\n")
    assert [uri for uri, _ in pairs(path)] == [
        f"{tmp_path}/{name}" for name in ("a.mp4 b.mp4", "b.mp4 ", "my clip 1.mp4")
    ]


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "N/A", "n/a", " ", "<NA>", "#N/A", "NULL"])
def test_words_for_a_missing_value_are_no_class(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path / "l.csv", f"path,label\n/a.mp4,{missing}\n/b.mp4,dog\n")
    assert refusal(path) == (
        "label must be given for every video or for none, is missing for '/a.mp4'; fill it in, or leave these videos "
        "out"
    )
    assert pairs(write(tmp_path / "l.csv", f"path,label\n/a.mp4,{missing}\n")) == [("/a.mp4", None)]


@pytest.mark.parametrize("label", ["NA", "none", "None", "nano", "0"])
def test_words_that_may_be_classes_stay(tmp_path: Path, label: str) -> None:
    assert pairs(write(tmp_path / "l.csv", f"path,label\n/a.mp4,{label}\n")) == [("/a.mp4", label)]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array([0.0, 1.0]), ["0", "1"]),
        (pa.array([0, 1], pa.int64()), ["0", "1"]),
        (pa.array(["0.0", "1.0"]), ["0", "1"]),
        (pa.array([0.5, 1.0]), ["0.5", "1"]),
        (pa.array(["1.0", "1.5"]), ["1.0", "1.5"]),
        (pa.array(["007", "1"]), ["007", "1"]),
        (pa.array([b"cat", b"Caf\xc3\xa9"]), ["cat", "Caf\u00e9"]),
        (pa.array(["cat", "dog"]).dictionary_encode(), ["cat", "dog"]),
        (pa.array([True, False]), ["True", "False"]),
    ],
)
def test_labels_of_every_type_are_text(tmp_path: Path, values: pa.Array, labels: list[str]) -> None:
    pq.write_table(pa.table({"path": [b"/a.mp4", b"/b.mp4"], "label": values}), tmp_path / "l.parquet")
    assert pairs(tmp_path / "l.parquet") == [("/a.mp4", labels[0]), ("/b.mp4", labels[1])]


def test_a_nan_in_a_column_of_numbers_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["/a.mp4", "/b.mp4"], "label": pa.array([0.0, math.nan])}), tmp_path / "l.parquet")
    assert refusal(tmp_path / "l.parquet").startswith(
        "label must be given for every video or for none, is missing for '/b.mp4'"
    )
    path = write(tmp_path / "l.json", '[{"path": "/a.mp4", "label": NaN}, {"path": "/b.mp4", "label": null}]')
    assert pairs(path) == [("/a.mp4", None), ("/b.mp4", None)]


def test_both_forms_of_an_accent_are_one_class(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "path,label\n/a.mp4,Caf\u00e9\n/b.mp4,Cafe\u0301\n")
    assert pairs(path) == [("/a.mp4", "Caf\u00e9"), ("/b.mp4", "Caf\u00e9")]


def test_splits_of_a_list_go_by_every_usual_word(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "path,split\n/a.mp4,Training\n/b.mp4,dev\n/c.mp4,TEST\n/d.mp4,validation\n")
    assert listing(path).manifest["split"].to_pylist() == ["train", "val", "test", "val"]


UTF16 = "must be UTF-8, is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {0} > utf8_{0}"
COLUMNS = "video_uri, uri, path, filepath, url"
WINDOWS = "write the path under which this machine has the archive"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "path,label\n/a.mp4,x\n".encode("utf-16"), UTF16.format("l.csv")),
        ("l.txt", "/a.mp4\n".encode("utf-16-le"), UTF16.format("l.txt")),
        ("l.json", "[]".encode("utf-16-be"), UTF16.format("l.json")),
        (
            "l.csv",
            b"path,label\n/a.mp4,Caf\xe9\n",
            "must be UTF-8, line 2 has the byte 0xe9; convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 "
            "l.csv > utf8_l.csv",
        ),
        ("l.csv", "", "is empty"),
        ("l.csv", "path,label\n/a.mp4,x\nPath, Label\n/b.mp4,y\n", "row 2 repeats the header; remove it"),
        ("l.csv", "path,label,Label\n/a.mp4,x,y\n", "names the column 'label' twice; rename or remove one"),
        (
            "l.csv",
            "path,label\n/a.mp4,x,y\n",
            "row 1 has 3 columns, the first line has 2; quote values with ',' in them",
        ),
        ("l.csv", "path,label\n/a.mp4\n", "row 1 has 1 columns, the first line has 2; quote values with ',' in them"),
        ("l.csv", "/a.mp4,cat,train\n", "must name its 3 columns in the first line, such as path,label,split"),
        (
            "l.csv",
            "file,category\na,b\n",
            f"must have a column {COLUMNS}, has 'file', 'category'; name it in the first line",
        ),
        ("l.csv", 'path,label\n"/a.mp4,x\n', "not a table with the separator ',' (unexpected end of data)"),
        (
            "l.csv",
            "path\nD:\\archive\\a.mp4\n",
            f"row 1: path is a path of Windows, 'D:\\\\archive\\\\a.mp4'; {WINDOWS}",
        ),
        ("l.txt", "/a.mp4\nC:/a.mp4\n", f"row 2: video_uri is a path of Windows, 'C:/a.mp4'; {WINDOWS}"),
        (
            "l.txt",
            "\\\\nas\\share\\a.mp4\n",
            f"row 1: video_uri is a path of Windows, '\\\\\\\\nas\\\\share\\\\a.mp4'; {WINDOWS}",
        ),
        ("l.txt", "cat\\a.mp4\n", f"row 1: video_uri is a path of Windows, 'cat\\\\a.mp4'; {WINDOWS}"),
        ("l.txt", "file:///D:/a.mp4\n", f"row 1: video_uri is a path of Windows, 'file:///D:/a.mp4'; {WINDOWS}"),
        (
            "l.txt",
            "file://nas/a.mp4\n",
            "row 1: file://nas/a.mp4: names the host 'nas'; a file on this machine is file:///path, with three slashes",
        ),
        ("l.csv", "path,label\n/a.mp4,x\nNaN,y\n", f"row 2 names no video in any of {COLUMNS}"),
        ("l.json", '[{"path": 3}]', "row 1: path must be text, is 3"),
        ("l.json", '[{"path": "/a.mp4", "label": ["x", "y"]}]', "row 1: label must be one value, is ['x', 'y']"),
        ("l.json", '[{"path": "/a.mp4", "path": "/b.mp4"}]', "names the column 'path' twice; rename or remove one"),
        ("l.jsonl", '{"path": "/a.mp4", "Path": "/b.mp4"}', "names the column 'path' twice; rename or remove one"),
        (
            "l.txt",
            "/a.mp4 0\n/b.mp4\n",
            "row 2 has no label, others have one: '/b.mp4'; add it, or name columns in a .csv",
        ),
        (
            "l.txt",
            "/a.mp4 120 3\n",
            "row 1 has several words behind the path: '/a.mp4 120 3'; name the columns in a .csv",
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_with_the_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert refusal(write(tmp_path / name, content)) == message


def test_a_parquet_file_at_fault_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table({"path": ["/a.mp4"], "label": ["x"], "Label": ["y"]}), path)
    assert refusal(path) == "names the column 'label' twice; rename or remove one"
    pq.write_table(pa.table({"file": ["/a.mp4"]}), path)
    assert refusal(path) == f"must have a column {COLUMNS}, has 'file'; rename the column"
    pq.write_table(pa.table({"Path ": ["/a.mp4"], "Category": ["x"]}), path)
    assert pairs(path) == [("/a.mp4", None)]
    assert listing(path).unread_columns == ("Category",)


def test_columns_that_nobody_reads_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", ",path,Category,label,path_2\n0,/a.mp4,x,y,z\n")
    assert listing(path).unread_columns == ("", "Category", "path_2")
    assert listing(path, labelled=False).unread_columns == ()


def test_a_directory_of_parquet_files_is_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    for number, (uri, label) in enumerate([("/data/cat/0.mp4", "cat"), ("b.mp4", "dog")]):
        pq.write_table(pa.table({"path": [uri], "label": [label], "x": [0]}), folder / f"part-{number}.parquet")
    (folder / "._part-0.parquet").write_bytes(b"")
    (folder / "_SUCCESS").write_bytes(b"")
    assert pairs(folder) == [("/data/cat/0.mp4", "cat"), (f"{folder}/b.mp4", "dog")]
    assert listing(folder).unread_columns == ("x",)
    assert listing(folder).ignored == {"no extension": 1}
    pq.write_table(pa.table({"path": ["b.mp4"], "label": ["dog"]}), folder / "part-2.parquet")
    assert refusal(folder) == f"lists '{folder}/b.mp4' more than once; every video must be listed once"


def test_a_directory_of_videos_with_a_parquet_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    write(tmp_path / "cat" / "a.mp4", "1")
    pq.write_table(pa.table({"path": ["/b.mp4"]}), tmp_path / "l.parquet")
    assert pairs(tmp_path) == [(f"{tmp_path}/cat/a.mp4", "cat")]
    assert listing(tmp_path).ignored == {"parquet": 1}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///data/cat/my clip.mp4", "/data/cat/my clip.mp4"),
        ("file:///data/cat/my%20clip.mp4", "/data/cat/my clip.mp4"),
        ("file:///data/cat/100%.mp4", "/data/cat/100%.mp4"),
        ("file:///data/cat/50%25.mp4", "/data/cat/50%.mp4"),
        ("file:///data/caf%C3%A9.mp4", "/data/caf\u00e9.mp4"),
        ("file:///data/caf%E9.mp4", "/data/caf%E9.mp4"),
        ("file:///data/a#1?.mp4", "/data/a#1?.mp4"),
        ("file://localhost/data/a.mp4", "/data/a.mp4"),
        ("file:/data/a.mp4", "/data/a.mp4"),
    ],
)
def test_a_file_uri_is_a_path(tmp_path: Path, uri: str, path: str) -> None:
    assert pairs(write(tmp_path / "l.csv", f"path\n{uri}\n")) == [(path, None)]
