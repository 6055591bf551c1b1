"""The `plan` job: its text with literal figures, and a measured plan that other jobs read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from tests.support.videos import write_video
from vidclf import cli
from vidclf.archive.manifest import list_archive, sample_of
from vidclf.config import ClassifyConfig, ExtractConfig, PlanConfig
from vidclf.errors import ConfigError
from vidclf.planning import plan
from vidclf.planning.measure import SampleMeasurement
from vidclf.planning.sizing import Cost, Machine, pools_for

MEASURED = SampleMeasurement(
    num_videos=4,
    reasons={"truncated": 1},
    mean_duration_s=10.0,
    decode_s=(0.5, 1.0, 1.0, 1.5),
    cnn_s={"openvino bf16": 4.0, "openvino fp32": 8.0},
    engine="openvino bf16",
)


def test_the_lines_on_measured_times() -> None:
    # Of four videos three take time in the CNN; the rejected one takes none.
    assert (MEASURED.decode_mean_s, MEASURED.cnn_mean_s) == (1.0, 3.0)
    # The standard deviation of the four is sqrt(1/6); half of that is the standard error.
    assert MEASURED.decode_error_s == pytest.approx(0.2041, abs=1e-4)
    assert plan.sample_lines(MEASURED, 1000) == [
        "sample      4 of 1000 videos, 10.0 s long on average, rejected: truncated 1",
        "decode      1.000 ± 0.400 CPU seconds per video (mean, 95 % interval), 95 % of the videos within 1.500 s",
        "CNN         openvino bf16 4.000 s, openvino fp32 8.000 s per video; a job uses openvino bf16",
    ]


def test_the_lines_on_a_cluster() -> None:
    pools = pools_for(Cost(decode_s=1.0, cnn_s=3.0, is_gpu=False), 16, 0, 0.75)
    assert plan.pools_lines("16 CPUs and 0 GPUs", pools, 10_800, MEASURED) == [
        "cluster     16 CPUs and 0 GPUs: 16 workers for decoding and the CNN, 3.00 videos/s; 10800 videos in "
        "1.00 h (± 10 % because the sample is small)",
        "bottleneck  CNN; decode is busy 25 % of the CPUs' time, the CNN 75 %",
    ]


def test_the_lines_on_a_deadline() -> None:
    cost = Cost(decode_s=1.0, cnn_s=0.125, is_gpu=True)
    lines, pools = plan.deadline_lines(cost, [], 28_800, 2.0, 1.0)
    assert lines == [
        "deadline    2 h: 4.00 videos/s, which needs 6 CPUs and 1 GPU; 4 decode workers, 1 CNN worker on GPUs"
    ]
    assert (pools.decode_workers, pools.cnn_workers) == (4, 1)
    machines = [
        Machine(name="gpu", cpus=4, gpus=1, price=1.0, max=1),
        Machine(name="cpu", cpus=2, gpus=0, price=0.05, max=9),
    ]
    lines, _ = plan.deadline_lines(cost, machines, 28_800, 2.0, 1.0)
    assert lines[1:] == [
        "machines    1 × gpu + 3 × cpu: 8 decode workers, 1 CNN worker on GPUs, 8.00 videos/s, done in 1.00 h",
        "bottleneck  decode; decode is busy 100 % of its workers' time, the CNN 100 %",
        "price       1.15, excluding the head node, storage and traffic",
    ]
    with pytest.raises(ConfigError, match=r"--deadline 0\.01: cannot be met .*; it needs 901 CPUs and 100 GPUs"):
        plan.deadline_lines(cost, machines, 28_800, 0.01, 1.0)


def test_a_sample_has_no_video_twice_and_depends_on_the_seed() -> None:
    assert sorted(sample_of(5, 200, 0)) == [0, 1, 2, 3, 4]
    assert len(set(sample_of(1000, 200, 0))) == 200
    assert sample_of(1000, 200, 0) == sample_of(1000, 200, 0) != sample_of(1000, 200, 1)


def test_an_archive_is_measured_and_its_pools_are_taken_by_other_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_cnn(monkeypatch)
    backbone, weights = TINY
    archive = tmp_path / "archive"
    archive.mkdir()
    for index in range(3):
        write_video(archive / f"{index}.mp4", num_frames=6)
    (archive / "3.mp4").write_text("not a video\n")
    config = PlanConfig(
        input=str(archive),
        backbone=backbone,
        weights=weights,
        num_frames=4,
        num_videos=1000,
        cpus=12,
        gpus=0,
        write=str(tmp_path / "job.yaml"),
    )
    text = plan.plan(config, list_archive(str(archive), labelled=False).manifest).splitlines()
    assert text[0].startswith("sample      4 of 1000 videos, 0.6 s long on average, rejected: not_a_video 1")
    assert text[3].startswith("cluster     12 CPUs and 0 GPUs: 12 workers for decoding and the CNN, ")
    assert yaml.safe_load((tmp_path / "job.yaml").read_text()) == {
        "decode_workers": 12,
        "gpus_per_cnn_worker": 0.0,
        "precision": "auto",
    }
    written = ("--config", str(tmp_path / "job.yaml"), "--output", "o")
    assert cli.parse(ExtractConfig, [*written, "--manifest", "m"]).decode_workers == 12
    assert cli.parse(ClassifyConfig, [*written, "--input", "i", "--ensemble", "e"]).gpus_per_cnn_worker == 0.0


def test_gpus_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4", num_frames=2)
    manifest = list_archive(str(tmp_path), labelled=False).manifest
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpu: {cpus: 8, gpus: 1, price: 1.5, max: 4}\n")
    with pytest.raises(ConfigError, match="--gpus 4: this machine has no GPU to measure"):
        plan.plan(PlanConfig(input=str(tmp_path), gpus=4), manifest)
    with pytest.raises(ConfigError, match=r"--prices .*prices\.yaml: this machine has no GPU"):
        plan.plan(PlanConfig(input=str(tmp_path), deadline=1.0, prices=str(prices)), manifest)
    with pytest.raises(ConfigError, match="--prices must be given with --deadline"):
        PlanConfig(input="i", prices="p")
