"""Run directories: continued, grown, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from vidclf import schema, storage
from vidclf.archive.manifest import video_id
from vidclf.config import ExtractConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.driver import begin_run, check_manifest, embed_videos
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.pipeline.run_directory import check_run, would_process
from vidclf.video import digest
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import LocalFile


def manifest(*paths: Path) -> pa.Table:
    rows = [
        {schema.VIDEO_ID: video_id(str(path)), "video_uri": str(path), "label": "A", "group": "g", "split": "train"}
        for path in paths
    ]
    return pa.Table.from_pylist(rows, schema=schema.MANIFEST)


def empty_job(num_frames: int = 4, names: tuple[str, ...] = ("",)) -> PipelineJob:
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=num_frames))
    return PipelineJob(
        targets=tuple(
            RunSpec(
                name=name,
                embeddings=(BackboneSetup(spec=spec, weights="DEFAULT", state={}),),
                output_schema=schema.features(1280),
            )
            for name in names
        )
    )


def check(config: ExtractConfig, rows: pa.Table, job: PipelineJob) -> None:
    check_run(config, job)
    check_manifest(config, rows, job)


def test_a_run_may_be_continued_and_grow(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"), Path("/c"))
    begin_run(config, rows.slice(0, 2), empty_job())
    check(config, rows, empty_job())
    assert would_process(config, rows.num_rows, empty_job()) == 3
    storage.publish_table(f"{config.output}/part-0.parquet", rows.slice(0, 1).select(["video_id"]))
    assert would_process(config, rows.num_rows, empty_job()) == 2
    assert would_process(replace(config, overwrite=True), rows.num_rows, empty_job()) == 3


def test_a_run_of_other_features_or_videos_is_refused(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"))
    begin_run(config, rows, empty_job())
    with pytest.raises(ConfigError, match=r"sampling.num_frames: 4 != 5\); choose another directory or --overwrite"):
        check(config, rows, empty_job(num_frames=5))
    with pytest.raises(ConfigError) as error:
        check(config, rows.slice(0, 1), empty_job())
    assert str(error.value) == (
        f"--output {config.output}: holds 1 video that this manifest does not (for one /b); --drop-removed deletes "
        "their results. If the archive was moved, index it again with --continue-from and --root"
    )
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=4))
    without_a_column = RunSpec(
        embeddings=(BackboneSetup(spec=spec, weights="DEFAULT", state={}),),
        output_schema=schema.features(1280).remove(0),
    )
    with pytest.raises(ConfigError, match="another version of this software, whose rows have other columns"):
        check(config, rows, PipelineJob(targets=(without_a_column,)))


def test_a_dry_run_lists_what_overwrite_would_delete_in_every_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"), overwrite=True, dry_run=True)
    rows = manifest(Path("/a"))
    saved = replace(empty_job().targets[0], directory=str(tmp_path / "saved"))
    job = PipelineJob(targets=(*empty_job().targets, saved))
    begin_run(replace(config, overwrite=False), rows, job)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert embed_videos(config, rows, job) is None
    assert capsys.readouterr().out.splitlines() == [
        f"would process 1 of 1 video into {tmp_path}/run, {tmp_path}/saved",
        *(
            f"would delete {tmp_path}/{run}/{name}"
            for run in ("run", "saved")
            for name in ("manifest.parquet", "run_identity.json")
        ),
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files


def test_a_directory_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        config = ExtractConfig(manifest="m", output=str(tmp_path), overwrite=overwrite)
        with pytest.raises(ConfigError, match="must be empty or a run to continue or to overwrite"):
            check(config, manifest(Path("/a")), empty_job())
    file = ExtractConfig(manifest="m", output=str(tmp_path / "thesis.tex"), overwrite=True)
    with pytest.raises(ConfigError, match="must be a directory, is a file"):
        check(file, manifest(Path("/a")), empty_job())


def test_the_runs_of_several_backbones_begin_and_grow_together(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"))
    two = empty_job(names=("resnet50", "resnet101"))
    state = begin_run(config, rows, two)
    assert state.num_pending == 2
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["_checkpoint", "resnet101", "resnet50"]
    check(config, rows, two)
    with pytest.raises(ConfigError, match=r"holds a run in .*/run/resnet101, which this job would not fill"):
        check(config, rows, empty_job(names=("resnet50",)))
    with pytest.raises(ConfigError, match="which this job would not fill; name the same backbones as before"):
        check(config, rows, empty_job())
    # A third may join as long as nothing is done.
    three = empty_job(names=("resnet50", "resnet101", "efficientnet_lite0"))
    check(config, rows, three)
    storage.publish_table(
        f"{config.output}/resnet50/part-{'0' * 32}-000000.parquet", rows.slice(0, 1).select(["video_id"])
    )
    with pytest.raises(
        ConfigError, match=r"holds videos, and .*/run/efficientnet_lite0 none; the runs of a job grow together"
    ):
        check(config, rows, three)


def test_a_video_counts_when_it_is_done_for_every_backbone(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"), Path("/c"))
    two = empty_job(names=("resnet50", "resnet101"))
    begin_run(config, rows, two)
    for name, part in (("resnet50", rows.slice(0, 2)), ("resnet101", rows.slice(1, 2))):
        storage.publish_table(f"{config.output}/{name}/part-0.parquet", part.select(["video_id"]))
    assert would_process(config, rows.num_rows, two) == 2


def test_a_new_size_in_the_manifest_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b")).drop_columns("size_bytes")
    old, new = (rows.append_column("size_bytes", [pa.array(sizes, pa.int64())]) for sizes in ([1, 2], [1, 3]))
    begin_run(config, new, empty_job())
    storage.publish_table(f"{config.output}/part-0.parquet", old.select(["video_id", "size_bytes"]))
    begin_run(config, old, empty_job())
    assert capsys.readouterr().err == ""
    begin_run(config, new, empty_job())
    assert capsys.readouterr().err == (
        f"{config.output}: 1 finished video has changed in size since the decoding (for one /b); --redo-stale "
        "does them again\n"
    )


def finished_run(tmp_path: Path, names: str) -> tuple[ExtractConfig, pa.Table, str]:
    """A run whose videos, files of one byte, are all done: its configuration, manifest and shard."""
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    for name in names:
        (tmp_path / name).write_text(name)
    rows = manifest(*[tmp_path / name for name in names])
    begin_run(config, rows, empty_job())
    prints = [digest.identify(LocalFile(str(tmp_path / name))) for name in names]
    facts = {
        "size_bytes": pa.array([found.size_bytes for found in prints], pa.int64()),
        "modified": pa.array([found.modified for found in prints], pa.timestamp("us", tz="UTC")),
        "content_digest": [found.digest for found in prints],
    }
    shard = f"{config.output}/part-{'0' * 32}-000000.parquet"
    storage.publish_table(shard, pa.table({"video_id": rows["video_id"], **facts}))
    storage.publish_json(f"{config.output}/summary.json", {})
    return config, rows, shard


def with_column(rows: pa.Table, name: str, values: list[str]) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), schema.MANIFEST.field(name), [values])


def test_new_labels_splits_and_sources_leave_nothing_to_do(tmp_path: Path) -> None:
    config, rows, shard = finished_run(tmp_path, "ab")
    before = Path(shard).read_bytes()
    newer = with_column(with_column(rows, "label", ["A", "B"]), "split", ["val", "train"])
    check(config, newer, empty_job())
    assert begin_run(config, newer, empty_job()).num_pending == 0
    assert Path(shard).read_bytes() == before
    assert storage.read_table(f"{config.output}/manifest.parquet").equals(newer)
    assert not storage.exists(f"{config.output}/summary.json")  # it is written anew, for the new splits


def test_a_moved_file_keeps_its_features_and_another_file_in_its_place_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, rows, shard = finished_run(tmp_path, "ab")
    places = [str(tmp_path / name) for name in ("moved", "b")]
    newer = with_column(rows, "video_uri", places)
    with pytest.raises(ConfigError, match=r"1 video is at a new location that cannot be read .* make it readable"):
        begin_run(config, newer, empty_job())
    (tmp_path / "a").rename(tmp_path / "moved")
    assert begin_run(config, newer, empty_job()).num_pending == 0
    (tmp_path / "other").write_text("c")
    other = with_column(rows, "video_uri", [str(tmp_path / "other"), str(tmp_path / "b")])
    assert begin_run(config, other, empty_job()).num_pending == 1
    assert storage.read_table(shard)["video_id"].to_pylist() == [video_id(str(tmp_path / "b"))]
    assert capsys.readouterr().err == f"{config.output}: 1 moved video has other content, which is decoded again\n"


def test_removed_videos_are_let_go_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, rows, shard = finished_run(tmp_path, "abc")
    dropping = replace(config, drop_removed=True)
    check(dropping, rows.slice(1), empty_job())
    state = begin_run(dropping, rows.slice(1), empty_job())
    assert (state.num_input_videos, state.num_ok, state.num_pending) == (2, 2, 0)
    assert storage.read_table(shard)["video_id"].to_pylist() == rows["video_id"].to_pylist()[1:]
    assert capsys.readouterr().err == f"{config.output}: 1 removed video let go (--drop-removed)\n"
