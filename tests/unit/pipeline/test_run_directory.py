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
from vidclf.pipeline.driver import begin_run, check_manifest
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.pipeline.run_directory import check_run, would_process
from vidclf.video.sampling import SamplingPlan


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


def test_a_run_of_other_features_videos_or_labels_is_refused(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"))
    begin_run(config, rows, empty_job())
    with pytest.raises(ConfigError, match=r"sampling.num_frames: 4 != 5\); choose another directory or --overwrite"):
        check(config, rows, empty_job(num_frames=5))
    with pytest.raises(ConfigError, match="was started with 1 videos that this manifest does not hold"):
        check(config, rows.slice(0, 1), empty_job())
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=4))
    without_a_column = RunSpec(
        embeddings=(BackboneSetup(spec=spec, weights="DEFAULT", state={}),),
        output_schema=schema.features(1280).remove(0),
    )
    with pytest.raises(ConfigError, match="another version of this software, whose rows have other columns"):
        check(config, rows, PipelineJob(targets=(without_a_column,)))
    relabelled = rows.set_column(rows.column_names.index("label"), schema.MANIFEST.field("label"), [["A", "B"]])
    with pytest.raises(ConfigError, match="label, group or split of 1 videos differ"):
        check(config, relabelled, empty_job())
    check(ExtractConfig(manifest="m", output=config.output, overwrite=True), relabelled, empty_job())


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
        f"{config.output}: 1 finished videos have changed in size since they were decoded (for one {video_id('/b')}); "
        "--redo-stale does them again\n"
    )
