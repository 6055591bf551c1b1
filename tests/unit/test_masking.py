"""Credentials in locations are masked in everything that jobs write and print."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from vidclf import cli, storage
from vidclf.archive.manifest import list_archive, video_id
from vidclf.config import ClassifyConfig, IndexConfig
from vidclf.config.options import Options
from vidclf.errors import ConfigError
from vidclf.pipeline import sink
from vidclf.runs import content_checks
from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected

ROOT = Path(__file__).resolve().parents[2]

SIGNED = "https://user:pass@media.example/a/{}.mp4?X-Amz-Signature={}"
SHOWN = "https://***@media.example/a/{}.mp4?X-Amz-Signature=***"


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """A job that fails."""

    input: str
    """location of the input"""


def test_error_lines_prints_and_tracebacks_are_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    location, shown = SIGNED.format("1", "0a1b"), SHOWN.format("1")
    monkeypatch.setattr(sys, "argv", ["job.py", "--input", location])

    def refused(config: Config) -> int:
        print(f"looking at {config.input}")
        print(f"warning: {config.input}", file=sys.stderr)
        raise ConfigError(f"--input {config.input}: no such list")

    def broken(config: Config) -> int:
        raise ValueError(config.input)

    with pytest.raises(SystemExit, match="2"):
        cli.run(Config, refused)
    printed = capsys.readouterr()
    assert printed.out == f"looking at {shown}\n"
    assert printed.err == f"warning: {shown}\njob.py: error: --input {shown}: no such list\n"
    with pytest.raises(SystemExit, match="1"):
        cli.run(Config, broken)
    printed = capsys.readouterr()
    assert printed.err.startswith("Traceback (most recent call last):\n")
    assert printed.err.endswith(f"ValueError: {shown}\n")


def test_run_config_is_masked(tmp_path: Path) -> None:
    config = ClassifyConfig(
        input=SIGNED.format("list", "0a1b"),
        ensemble="e",
        output=str(tmp_path),
        weights=(SIGNED.format("w", "2c3d"), "b"),
    )
    cli.write_run_config(config, str(tmp_path))
    written = yaml.safe_load((tmp_path / "run_config.yaml").read_text())
    assert (written["input"], written["weights"]) == (SHOWN.format("list"), [SHOWN.format("w"), "b"])


def test_messages_of_rejected_videos_are_masked() -> None:
    rejected = VideoRejected(RejectReason.NOT_FOUND, f"{SIGNED.format('1', '0a1b')}: 404")
    assert (rejected.message, str(rejected)) == (f"{SHOWN.format('1')}: 404", f"{SHOWN.format('1')}: 404")


def test_rows_are_masked() -> None:
    rows = pa.table({"video_uri": [SIGNED.format("1", "0a1b"), "/data/2.mp4"], "n": [1, 2]})
    assert sink._masked(rows).to_pydict() == {"video_uri": [SHOWN.format("1"), "/data/2.mp4"], "n": [1, 2]}


def test_a_video_is_looked_at_again_where_the_manifest_has_it(tmp_path: Path) -> None:
    storage.publish_table(
        str(tmp_path / "manifest.parquet"),
        pa.table({"video_id": ["b", "a"], "video_uri": ["/data/b.mp4", SIGNED.format("1", "0a1b")]}),
    )
    rows = pa.table({"video_id": ["a", "b"], "video_uri": [SHOWN.format("1"), "/data/b.mp4"]})
    rows_to_open = content_checks._openable(str(tmp_path), rows)
    assert rows_to_open["video_uri"].to_pylist() == [SIGNED.format("1", "0a1b"), "/data/b.mp4"]


def test_a_list_that_is_signed_anew_names_the_same_videos_and_groups() -> None:
    assert video_id(SIGNED.format("1", "0a1b")) == video_id(SIGNED.format("1", "2c3d"))
    assert video_id(SIGNED.format("1", "0a1b")) != video_id(SIGNED.format("2", "0a1b"))
    # uuid5 of the location, as it always was, where there are no credentials.
    assert video_id("https://media.example/1.mp4") == "2861f9b6-2cee-5b48-a4c3-53b0e7d76523"


def test_index_says_that_its_manifest_keeps_credentials(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("index_job", ROOT / "jobs" / "index.py")
    assert spec is not None
    assert spec.loader is not None
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    list_file = tmp_path / "list.txt"
    list_file.write_text("\n".join([SIGNED.format("1", "0a1b"), SIGNED.format("2", "0a1b"), "/data/3.mp4"]))
    listing = list_archive(str(list_file), labelled=False)
    assert SIGNED.format("1", "0a1b") in listing.manifest["video_uri"].to_pylist()
    assert sorted(listing.manifest["group"].to_pylist()) == ["/data/3.mp4", SHOWN.format("1"), SHOWN.format("2")]
    config = IndexConfig(input=str(list_file), output="m.parquet")
    (line,) = [line for line in index.summary(config, listing.manifest, listing, False).splitlines() if "cred" in line]
    assert line == (
        "  credentials: 2 locations contain a password, a signature or a token, and so does m.parquet, because jobs "
        "need them to read the videos; to keep it free of them, list s3:// or gs:// locations and give credentials by "
        "the environment or a profile (AWS_PROFILE)"
    )
