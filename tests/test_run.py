"""A run's directory: continued, grown, or refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vidclf import schema
from vidclf.archive.manifest import video_id
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ConfigError, ExtractConfig
from vidclf.features.run import EmbeddingJob, begin_run, check_run, progress_so_far
from vidclf.features.store import FeatureSpec


def manifest(*paths: Path) -> pa.Table:
    rows = [
        {schema.VIDEO_ID: video_id(str(path)), "video_uri": str(path), "label": "A", "group": "g", "split": "train"}
        for path in paths
    ]
    return pa.Table.from_pylist(rows, schema=schema.MANIFEST)


def empty_job(num_frames: int = 4) -> EmbeddingJob:
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=num_frames))
    return EmbeddingJob(spec=spec, weights="DEFAULT", state={}, output_schema=schema.features(1280))


def test_a_run_may_be_continued_and_grow(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"), Path("/c"))
    begin_run(config, rows.slice(0, 2), empty_job())
    check_run(config, rows, empty_job())
    state = progress_so_far(config, rows)
    assert (state.num_input_videos, state.num_ok, state.num_pending) == (3, 0, 3)


def test_a_run_of_other_features_videos_or_labels_is_refused(tmp_path: Path) -> None:
    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    rows = manifest(Path("/a"), Path("/b"))
    begin_run(config, rows, empty_job())
    with pytest.raises(ConfigError, match=r"sampling.num_frames: 4 != 5\); choose another directory or --overwrite"):
        check_run(config, rows, empty_job(num_frames=5))
    with pytest.raises(ConfigError, match="was started with 1 videos that this manifest does not hold"):
        check_run(config, rows.slice(0, 1), empty_job())
    relabelled = rows.set_column(rows.column_names.index("label"), schema.MANIFEST.field("label"), [["A", "B"]])
    with pytest.raises(ConfigError, match="label, group or split of 1 videos differ"):
        check_run(config, relabelled, empty_job())
    check_run(ExtractConfig(manifest="m", output=config.output, overwrite=True), relabelled, empty_job())


def test_a_directory_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        config = ExtractConfig(manifest="m", output=str(tmp_path), overwrite=overwrite)
        with pytest.raises(ConfigError, match="must be empty or a run to continue or to overwrite"):
            check_run(config, manifest(Path("/a")), empty_job())
    file = ExtractConfig(manifest="m", output=str(tmp_path / "thesis.tex"), overwrite=True)
    with pytest.raises(ConfigError, match="must be empty or a run to continue or to overwrite"):
        check_run(file, manifest(Path("/a")), empty_job())
