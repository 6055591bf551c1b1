"""Output of `jobs/index.py`: what it counts, what it names, and what it refuses."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vidclf.archive import manifest
from vidclf.archive.directory import Contents, list_directory
from vidclf.archive.manifest import read_manifest
from vidclf.config import IndexConfig
from vidclf.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("index_job", ROOT / "jobs" / "index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")


def run(job: ModuleType, capsys: pytest.CaptureFixture[str], root: Path, **options: Any) -> list[str]:
    """Index a directory or list without splits; the printed lines without the path of the manifest."""
    output = str(root.parent / "m.parquet")
    assert job.main(IndexConfig(input=str(root), output=output, split="none", overwrite=True, **options)) == 0
    return capsys.readouterr().out.replace(output, "m").splitlines()


def test_what_was_passed_over_is_counted_and_named(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    touch(root, "cat/a.mp4", "cat/b.mp4", "dog/c.mp4", "#recycle/cat/old.mp4", "cat/@eaDir/a.mp4/P.mp4", "dog/n.txt")
    (root / "cat" / "all").symlink_to("..")
    (root / "dog" / "d.mp4").symlink_to("nowhere")
    assert run(job, capsys, root) == [
        "m: 4 videos from 4 sources, written",
        "  cat: 2",
        "  dog: 2",
        "  passed over: 1 recycle bin ('#recycle')",
        "  passed over: 1 preview of a NAS ('cat/@eaDir')",
        "  passed over: 1 link to a directory that is listed elsewhere ('cat/all')",
        "  ignored, by extension: txt 1",
    ]


def test_three_splits_of_two_classes(job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = tmp_path / "archive"
    touch(root, *(f"{word}/{label}/v.mp4" for word in ("training", "validation", "testing") for label in "ab"))
    assert run(job, capsys, root)[1:] == [
        "  sources: file names show none, so every video counts as its own; where several are cut from one recording, "
        "name it (column group, or --group-pattern REGEX), or accuracy and risk are stated too well",
        "  a: train 1, val 1, test 1",
        "  b: train 1, val 1, test 1",
    ]
    assert not any("sources:" in line for line in run(job, capsys, root, group_pattern="none"))


def test_sources_in_file_names_are_stated_and_kept_in_one_split(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    touch(root, *(f"train/cat/{name}.mp4" for name in ("tabby-00", "tabby-01", "a", "b")))
    touch(root, *(f"{split}/cat/{name}.mp4" for split, name in (("val", "tabby-02"), ("val", "c"), ("test", "d"))))
    assert run(job, capsys, root) == [
        "m: 7 videos from 5 sources, written",
        "  sources in file names: 1 source of 3 videos by running numbers ('tabby-00' is of source 'cat:tabby', 3 "
        "videos); 4 other videos count as their own source; --group-pattern REGEX reads them otherwise, "
        "--group-pattern none takes none",
        "  cat: train 4, val 2, test 1",
        "  1 of these sources is in several splits (one is 'cat:tabby'), so that the test repeats training; "
        "jobs/train.py --split assigns splits anew",
    ]


def test_an_archive_that_was_indexed_without_sources_keeps_its_splits_and_is_listed_once(
    job: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, output = tmp_path / "archive", str(tmp_path / "m.parquet")
    films = ("harbour", "meadow", "station", "orchard", "glacier", "lantern")
    touch(root, *(f"{label}/{film}-{label}_{part:03}.mp4" for label in "AB" for film in films for part in range(3)))
    config = IndexConfig(input=str(root), output=output, overwrite=True)
    job.main(replace(config, group_pattern="none"))
    before = read_manifest(output)
    capsys.readouterr()
    listed: list[str] = []

    def counting(location: str, *given: Any) -> Contents:
        listed.append(location)
        return list_directory(location, *given)

    monkeypatch.setattr(manifest, "list_directory", counting)
    job.main(config)
    assert listed == [str(root)]
    assert read_manifest(output).equals(before)
    assert "  sources in file names are not taken, because the earlier manifest has none" in capsys.readouterr().out
    job.main(replace(config, continue_from="none"))
    assert len(set(read_manifest(output)["group"].to_pylist())) == 12
    job.main(config)
    assert len(set(read_manifest(output)["group"].to_pylist())) == 12


def test_a_split_that_found_sources_prevent_names_the_way_out(job: ModuleType, tmp_path: Path) -> None:
    names = [f"{label}/{name}_0010_0020.mp4" for label in ("cat", "dog") for name in ("one", "two", "three")]
    touch(tmp_path / "archive", *names)
    config = IndexConfig(input=str(tmp_path / "archive"), output=str(tmp_path / "m.parquet"), split="0.4,0.3,0.3")
    assert job.main(config) == 0
    assert len(set(read_manifest(config.output)["group"].to_pylist())) == 3
    touch(tmp_path / "archive", "owl/one_0030_0040.mp4", "owl/four_0030_0040.mp4", "owl/five_0030_0040.mp4")
    touch(tmp_path / "archive", "owl/one_0050_0060.mp4", "dog/five_0050_0060.mp4", "cat/four_0050_0060.mp4")
    again = replace(config, overwrite=True, continue_from="none", split="0.9,0.05,0.05")
    with pytest.raises(ConfigError, match="sources were found in file names: --group-pattern none takes every video"):
        job.main(again)


def test_a_limit_spreads_over_the_classes_and_says_so(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    touch(root, *(f"{label}/{number}.mp4" for label in ("cat", "dog") for number in range(4)))
    assert run(job, capsys, root, limit=4) == [
        "m: 4 videos from 4 sources, written",
        "  --limit: 4 of 8 videos, spread over 2 classes",
        "  cat: 2",
        "  dog: 2",
    ]
    assert read_manifest(str(tmp_path / "m.parquet"))["label"].to_pylist() == ["cat", "cat", "dog", "dog"]


def test_a_dry_run_says_which_manifest_would_be_replaced(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    touch(root, "cat/a.mp4")
    assert run(job, capsys, root, dry_run=True)[0] == "m: 1 video from 1 source, would be written"
    assert run(job, capsys, root)[0] == "m: 1 video from 1 source, written"
    before = (tmp_path / "m.parquet").read_bytes()
    assert run(job, capsys, root, dry_run=True)[0] == "m: 1 video from 1 source, unchanged"
    touch(root, "cat/b.mp4")
    assert run(job, capsys, root, dry_run=True)[0] == "m: 2 videos from 2 sources, would be replaced"
    assert (tmp_path / "m.parquet").read_bytes() == before


def test_an_earlier_manifest_that_is_none_is_refused_by_its_flag(job: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    touch(root, "cat/a.mp4")
    (tmp_path / "notes").write_text("mine")
    config = IndexConfig(input=str(root), output=str(tmp_path / "m.parquet"), continue_from=str(tmp_path / "notes"))
    with pytest.raises(ConfigError, match=rf"^--continue-from {tmp_path}/notes: not a manifest that jobs/index"):
        job.main(config)


def test_flags_reach_the_listing(job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = tmp_path / "archive"
    touch(root, "test/a.mp4", "Test/b.mp4", "cat/c.mp4", "cat/d.mov")
    flags = {"split_directories": "never", "keep_label_spelling": True, "exclude": ("*.mov",), "strict": True}
    assert run(job, capsys, root, **flags)[1:] == [
        "  Test: 1",
        "  cat: 1",
        "  test: 1",
        "  passed over: 1 excluded by --exclude ('cat/d.mov')",
    ]
    assert run(job, capsys, root, include=("cat",), sniff=False)[1:2] == ["  cat: 2"]


def test_unread_columns_and_missing_videos_are_named(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "l.csv"
    path.write_text("path,category\n/no/a.mp4,cat\n/no/b.mp4,dog\n")
    missing = (
        "  not found: none of the first 2 locations exists, such as '/no/a.mp4'; correct the paths, or mount the "
        "archive on this machine"
    )
    assert run(job, capsys, path) == [
        "m: 2 videos from 2 sources, written",
        missing,
        "  columns not read: 'category'; classes must be in a column label",
    ]
    path.write_text("path,label,colour\n/no/a.mp4,cat,red\n/no/b.mp4,dog,red\n")
    assert run(job, capsys, path)[3:] == [
        missing,
        "  columns not read: 'colour'",
        "  compared with m: 2 known (0 of them at a new location), 0 new, 0 gone",
    ]


def test_a_taxonomy_renames_the_labels_of_the_manifest_and_leaves_its_sources(
    job: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    touch(root, *(f"{name}.mp4" for name in ("cat/tabby-00", "cat/tabby-01", "dog/a", "dog/b", "bird/c")))
    (tmp_path / "t.yaml").write_text("pets: {cats: [cat], dogs: [dog]}")
    lines = run(job, capsys, root, taxonomy=str(tmp_path / "t.yaml"), group_pattern="^([a-z]+)")
    assert {"  pets: 4", "  bird: 1"} <= set(lines)
    assert (
        lines[-1] == f"  taxonomy: 4 videos named by {tmp_path}/t.yaml, 1 keep their names; 2 classes and 2 sublabels"
    )
    table = read_manifest(str(tmp_path / "m.parquet"))
    rows = zip(*(table[name].to_pylist() for name in ("label", "sublabel", "group")), strict=True)
    assert [row for row in rows if row[0] == "pets"][:2] == [("pets", "cats", "cat:tabby")] * 2
    (tmp_path / "t.yaml").write_text("pets: {cats: [lion]}")
    with pytest.raises(ConfigError, match="'lion' below 'pets/cats' must be a label or label/sublabel of the archive"):
        run(job, capsys, root, taxonomy=str(tmp_path / "t.yaml"))
