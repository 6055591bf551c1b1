"""The files through which a video's location passes, from `jobs/classify.py` to its row in the predictions.

The job runs in this process, with its real decoder process, ensemble and sink. Only Ray, which moves the rows between
the stages, and the CNN are replaced.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from ray.data.block import BlockAccessor

from tests.support import location_trace
from tests.support.ensembles import write_small_ensemble
from tests.support.videos import write_video
from vidclf import storage
from vidclf.backbones.engine import Engine
from vidclf.classification import classify
from vidclf.config import ClassifyConfig, PipelineConfig
from vidclf.pipeline import embed_stage
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.sink import RunSink
from vidclf.runs import reconcile
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance
from vidclf.video.decoder_process import DecodeLimits

MAX_FILES = 10
MAX_PACKAGE_CHANGES = 9


def run_in_this_process(config: PipelineConfig, job: PipelineJob, before: RunState) -> Performance:
    """Do what `graph.run_pipeline` does, with one worker and without Ray."""
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: None))
    worker = embed_stage.DecodeAndEmbed(
        job=job.without_states(),
        limits=DecodeLimits(),
        networks={setup.spec.key: None for setup in job.embeddings},
        precision="fp32",
        num_gpus=0,
        tally=tally,
    )
    schemas = {target.run(config.output): target.output_schema for target in job.targets}
    sink = RunSink(config.output, schemas, config.rows_per_shard, [{}])
    for index, table in enumerate(worker(storage.read_table(reconcile.to_read(config.output, list(schemas))))):
        context: Any = SimpleNamespace(kwargs={"write_uuid": "0" * 32}, task_idx=index)
        sink.write_block(BlockAccessor.for_block(table), 0, context)
    location_trace.stop()
    return Performance(busy={})


def test_a_location_passes_ten_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive").mkdir()
    location = str(write_video(tmp_path / "archive" / "video.mp4", 4))
    log = tmp_path / "log"
    (tmp_path / "hook").mkdir()
    location_trace.write_child_hook(tmp_path / "hook", location, str(log))
    monkeypatch.syspath_prepend(tmp_path / "hook")
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    monkeypatch.setattr(classify, "run_pipeline", run_in_this_process)
    cnn = Engine(name="zeros", run=lambda frames_THWC: np.zeros((len(frames_THWC), 1280), np.float32))
    monkeypatch.setattr(embed_stage, "load_engine", lambda *_: cnn)
    config = ClassifyConfig(
        input=str(tmp_path / "archive"),
        ensemble=write_small_ensemble(tmp_path / "ensemble", ["A", "B"], num_frames=2),
        output=str(tmp_path / "predictions"),
        accept_uncertified=True,
    )
    from jobs.classify import main

    location_trace.start(location, str(log))
    try:
        assert main(config) == 0
    finally:
        location_trace.stop()
    (shard,) = (tmp_path / "predictions").glob("part-*.parquet")
    assert pq.read_table(shard)["video_uri"].to_pylist() == [location]

    # The top-level modules (storage, arrow, credentials) are left out, because every package calls them.
    passed = [path for path in log.read_text().splitlines() if path.count("/") > 1 or path.startswith("jobs/")]
    assert passed == [
        "vidclf/archive/manifest.py",
        "vidclf/classification/archive_job.py",
        "vidclf/pipeline/driver.py",
        "vidclf/pipeline/embed_stage.py",
        "vidclf/pipeline/decode_stage.py",
        "vidclf/video/decoder_process.py",
        "vidclf/video/decoder_child.py",
        "vidclf/video/decode.py",
        "vidclf/video/source.py",
        "vidclf/pipeline/sink.py",
    ]
    page = (location_trace.ROOT / "docs" / "development" / "architecture.md").read_text()
    documented = re.findall(r"^\| \d+ \| `([^`]+)` \|", page, re.MULTILINE)
    assert sorted(documented) == sorted(path.removeprefix("vidclf/") for path in passed)
    # The way begins in the job, where `--input` names the archive.
    packages = [Path(path).parent for path in ("jobs/classify.py", *passed)]
    assert len(passed) <= MAX_FILES
    assert sum(one != other for one, other in itertools.pairwise(packages)) <= MAX_PACKAGE_CHANGES
