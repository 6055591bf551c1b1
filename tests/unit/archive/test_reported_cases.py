"""Archives and lists of other projects' reports: the whole output of `jobs/index.py` for each."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.archive.test_index_job import job, run, touch
from vidclf.config import IndexConfig
from vidclf.errors import ConfigError

__all__ = ["job"]  # a fixture

URIS = [f"/data/{label}/v{number}.mp4" for label in ("cat", "dog") for number in range(4)]
LABELS = ["cat"] * 4 + ["dog"] * 4
PAIRS = list(zip(URIS, LABELS, strict=True))
COUNTED = ["  cat: 4", "  dog: 4"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An archive of two classes of four videos."""
    touch(tmp_path / "a", *(f"{label}/v{number}.mp4" for label in ("cat", "dog") for number in range(4)))
    return tmp_path / "a"


def test_a_link_to_the_parent_directory(job: ModuleType, capsys: pytest.CaptureFixture[str], base: Path) -> None:
    (base / "cat" / "all").symlink_to("..")
    assert run(job, capsys, base) == [
        "m: 8 videos from 8 sources, written",
        *COUNTED,
        "  passed over: 1 link to a directory that is listed elsewhere ('cat/all')",
    ]


def test_links_of_git_annex_without_content(job: ModuleType, capsys: pytest.CaptureFixture[str], base: Path) -> None:
    for number in (4, 5, 6):
        (base / "cat" / f"v{number}.mp4").symlink_to(f"../.git/annex/objects/{number}.mp4")
    assert run(job, capsys, base) == ["m: 11 videos from 11 sources, written", "  cat: 7", "  dog: 4"]


def test_recycle_bins_and_previews_of_a_nas(job: ModuleType, capsys: pytest.CaptureFixture[str], base: Path) -> None:
    touch(base, "#recycle/cat/old.mp4", "$RECYCLE.BIN/S-1-5/$R1.mp4", "cat/@eaDir/v0.mp4/SYNOVIDEO_PREVIEW.mp4")
    touch(base, "lost+found/x.mp4", "System Volume Information/x.mp4", ".Trash-1000/x.mp4", "cat/._v0.mp4")
    assert run(job, capsys, base) == [
        "m: 8 videos from 8 sources, written",
        *COUNTED,
        "  passed over: 2 recycle bins ('#recycle', '$RECYCLE.BIN')",
        "  passed over: 2 hidden files and directories ('.Trash-1000', 'cat/._v0.mp4')",
        "  passed over: 2 system directories ('System Volume Information', 'lost+found')",
        "  passed over: 1 preview of a NAS ('cat/@eaDir')",
    ]


def test_a_file_uri_with_a_space(job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    touch(tmp_path / "my archive", *(f"cat/v{number}.mp4" for number in range(4)))
    output = f"{tmp_path}/m.parquet"
    job.main(IndexConfig(input=f"file://{tmp_path}/my archive", output=output, split="none"))
    assert capsys.readouterr().out.splitlines() == [f"{output}: 4 videos from 4 sources, written", "  cat: 4"]


def test_split_directories_above_the_labels(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("training", "validation", "testing")
    touch(tmp_path / "a", *(f"{word}/{label}/v{n}.mp4" for label in ("cat", "dog") for n, word in enumerate(words)))
    assert run(job, capsys, tmp_path / "a", group_pattern="none") == [
        "m: 6 videos from 6 sources, written",
        "  cat: train 1, val 1, test 1",
        "  dog: train 1, val 1, test 1",
    ]


def missing(first: str = URIS[0], num_checked: int = 8) -> str:
    """The line on locations that do not exist."""
    what = f"none of the first {num_checked} locations exists, such as {first!r}"
    if num_checked == 1:
        what = f"the only location, {first!r}, does not exist"
    return f"  not found: {what}; correct the paths, or mount the archive on this machine"


def table(separator: str = ",", header: str = "path{}label", labels: list[str] = LABELS) -> str:
    """A list in a text file."""
    rows = [f"{uri}{separator}{label}\n" for uri, label in zip(URIS, labels, strict=True)]
    return "".join([header.format(separator) + "\n" if header else "", *rows])


READ = ["m: 8 videos from 8 sources, written", *COUNTED, missing()]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("01_semicolon.csv", table(";").replace("\n", "\r\n"), READ),
        ("07_space_in_header.csv", table(", "), READ),
        ("08_capital_header.csv", table(header="Path{}Label"), READ),
        ("09_no_header.csv", table(header=""), READ),
        (
            "10_path_and_label.txt",
            table(" ", "", ["0"] * 4 + ["1"] * 4),
            [READ[0], "  0: 4", "  1: 4", missing()],
        ),
        ("11_spaces_at_the_end.txt", "".join(f"{uri} \n" for uri in URIS), [READ[0], missing()]),
        (
            "14_file_uri_space.csv",
            "path\nfile:///data/cat/my clip.mp4\n",
            ["m: 1 video from 1 source, written", missing("/data/cat/my clip.mp4", 1)],
        ),
        (
            "15_file_uri_percent.txt",
            "file:///data/cat/100%.mp4\n",
            ["m: 1 video from 1 source, written", missing("/data/cat/100%.mp4", 1)],
        ),
        (
            "19_accents_two_ways.csv",
            table(labels=["Caf\u00e9"] * 2 + ["Cafe\u0301"] * 2 + ["dog"] * 4),
            [READ[0], "  Caf\u00e9: 4", "  dog: 4", missing()],
        ),
        (
            "20_category_column.csv",
            table(header="path{}category"),
            [READ[0], missing(), "  columns not read: 'category'; classes must be in a column label"],
        ),
    ],
)
def test_a_list_is_read_as_it_is_meant(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str, lines: list[str]
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert run(job, capsys, tmp_path / name) == lines


def test_a_binary_column_is_decoded(job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "13_binary_path.parquet"
    pq.write_table(pa.table({"path": pa.array([uri.encode() for uri in URIS]), "label": LABELS}), path)
    assert run(job, capsys, path) == READ


WITHOUT_LABEL = (
    "label must be given for every video or for none, is missing for '/data/cat/v3.mp4'; fill it in, or leave these "
    "videos out"
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "02_utf16.csv",
            table().encode("utf-16"),
            "must be UTF-8, is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 02_utf16.csv > utf8_02_utf16.csv",
        ),
        ("05_NaN_text.csv", table(labels=["cat"] * 3 + ["NaN"] + ["dog"] * 4).encode(), WITHOUT_LABEL),
        (
            "06_space_and_case.csv",
            table(labels=["cat", "cat ", "Cat", "cat"] + ["dog"] * 4).encode(),
            "classes must differ in more than case and spaces, do not: 'Cat' (1 video) and 'cat' (3 videos); write "
            "each in one way, or keep them apart with --keep-label-spelling",
        ),
        (
            "12_windows.csv",
            "".join(["path,label\n", *(f"D:\\archive\\{label}\\v0.mp4,{label}\n" for label in LABELS)]).encode(),
            "row 1: path is a path of Windows, 'D:\\\\archive\\\\cat\\\\v0.mp4'; write the path under which this "
            "machine has the archive",
        ),
        (
            "17_header_twice.csv",
            table().replace("/data/dog/v0", "path,label\n/data/dog/v0").encode(),
            "row 5 repeats the header; remove it",
        ),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(
    job: ModuleType, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        job.main(IndexConfig(input=f"{tmp_path}/{name}", output=f"{tmp_path}/m.parquet"))
    assert str(error.value) == f"--input {tmp_path}/{name}: {message}"


def test_a_nan_in_a_column_of_numbers_is_no_class(job: ModuleType, tmp_path: Path) -> None:
    labels = pa.array([0.0, 0, 0, math.nan, 1, 1, 1, 1])
    pq.write_table(pa.table({"path": URIS, "label": labels}), tmp_path / "03_nan.parquet")
    with pytest.raises(ConfigError) as error:
        job.main(IndexConfig(input=f"{tmp_path}/03_nan.parquet", output=f"{tmp_path}/m.parquet"))
    assert str(error.value) == f"--input {tmp_path}/03_nan.parquet: {WITHOUT_LABEL}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written(job: ModuleType, base: Path) -> None:
    (base.parent / "ro").mkdir(mode=0o555)
    output = f"{base.parent}/ro/m.parquet"
    with pytest.raises(ConfigError) as error:
        job.main(IndexConfig(input=str(base), output=output))
    assert str(error.value) == f"--output {output}: cannot be written (Permission denied); choose another place"
