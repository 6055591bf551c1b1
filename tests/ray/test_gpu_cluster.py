"""Jobs on a cluster that counts a GPU which is not there: the graph, what workers reserve, and what is refused.

The device behind the GPU is set to the CPU, but for the tests of what is said where torch cannot use the GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gpu_cluster_job import JOBS, ROOT

UNUSABLE = ("extract", "serve")
"""Jobs for a GPU that torch cannot use."""


def run(folder: Path, names: list[str], device: str, gpu: str = "GPU-made-up") -> dict[str, dict[str, Any]]:
    """What came of jobs on a Ray with `gpu`, by default one that no machine has: Ray counts it, and CUDA finds none."""
    environment = {**os.environ, "VIDCLF_GPU_DEVICE": device, "CUDA_VISIBLE_DEVICES": gpu}
    command = [sys.executable, "-m", "tests.support.gpu_cluster_job", str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of the other jobs, with the device set to the CPU."""
    return run(tmp_path_factory.mktemp("made_up"), [name for name in JOBS if name not in UNUSABLE], "cpu")


@pytest.fixture(scope="module")
def unusable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return run(tmp_path_factory.mktemp("unusable"), list(UNUSABLE), "cuda")


def engines(summary: dict[str, Any]) -> tuple[list[str], list[str]]:
    return list(summary["cnn_engines"]), list(summary["head_engines"])


def test_extract_runs_several_backbones_in_workers_on_the_gpu(made_up: dict[str, dict[str, Any]]) -> None:
    several = made_up["several"]
    assert several["code"] == 0, several["errors"]
    assert sorted(several["summaries"]) == ["efficientnet_lite0", "resnet50"]
    for summary in several["summaries"].values():
        assert (summary["num_ok"], summary["num_quarantined"]) == (3, 1)
        # torch, because only workers without a GPU run OpenVINO.
        assert engines(summary) == (["torch cpu fp32"], [])


def test_classify_runs_head_and_cnn_beside_each_other(made_up: dict[str, dict[str, Any]]) -> None:
    for name in ("classify", "progressive", "features"):
        assert made_up[name]["code"] == 0, made_up[name]["errors"]
    assert engines(made_up["classify"]["summaries"]["."]) == (["torch cpu fp32"], ["torch cpu fp32"])
    assert engines(made_up["features"]["summaries"]["."]) == ([], ["torch cpu fp32"])
    assert {made_up[name]["summaries"]["."]["num_ok"] for name in ("classify", "progressive", "features")} == {3}


def test_both_passes_of_a_progressive_job_run_on_the_gpu(made_up: dict[str, dict[str, Any]]) -> None:
    summaries = made_up["progressive"]["summaries"]
    assert sorted(summaries) == [".", "_passes/full", "_passes/keyframes"]
    assert {tuple(engines(summary)[0]) for summary in summaries.values()} == {("torch cpu fp32",)}


def test_without_a_share_nothing_takes_the_gpu(made_up: dict[str, dict[str, Any]]) -> None:
    (summary,) = made_up["on_cpus"]["summaries"].values()
    cnn, head = engines(summary)
    assert (cnn[0].split()[0], head[0].split()[:2]) == ("openvino", ["torch", "cpu"])
    assert made_up["served_on_cpus"]["gpus"] == 0
    assert made_up["served_on_cpus"]["engines"][0].startswith("cnn_engine:openvino ")


def test_a_server_takes_a_quarter_of_the_gpu(made_up: dict[str, dict[str, Any]]) -> None:
    assert made_up["served"] == {
        "stage": "done",
        "gpus": 0.25,
        "engines": ["cnn_engine:torch cpu fp32", "head_engine:torch cpu fp32"],
    }


def test_a_plan_measures_the_device_of_the_gpu(made_up: dict[str, dict[str, Any]]) -> None:
    plan = made_up["plan"]
    assert plan["code"] == 0, plan["errors"]
    assert "a job uses torch cpu fp32" in plan["stdout"]
    assert yaml.safe_load(plan["written"]) == {
        "decode_workers": 2,
        "cnn_workers": 1,
        "gpus_per_cnn_worker": 1.0,
        "precision": "auto",
    }


RULE = "must be between 0 and 1 GPU, because a worker computes on one GPU alone, got"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_many", "--cnn-workers must be at most 1 with --gpus-per-cnn-worker 1 on a cluster of 1 GPU(s), got 2"),
        ("too_much", f"--gpus-per-cnn-worker {RULE} 1.5"),
        ("serve_too_much", f"--gpus {RULE} 2.0"),
    ],
)
def test_more_gpu_than_there_is_is_one_line_before_any_work(
    made_up: dict[str, dict[str, Any]], name: str, message: str
) -> None:
    refused = made_up[name]
    assert (refused["code"], refused["said"], refused["summaries"]) == (2, "", {})
    assert refused["errors"].count("\n") == 1
    assert refused["errors"].endswith(f"error: {message}\n")


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_gpu_that_torch_cannot_use_is_one_line_that_names_the_driver(
    unusable: dict[str, dict[str, Any]], name: str
) -> None:
    refused = unusable[name]
    assert refused["code"] == 2, refused["errors"]
    assert f"{name}.py: error: Ray counts a GPU that torch cannot use: torch " in refused["errors"].splitlines()[-1]
    assert "NVIDIA's driver 580 or later" in refused["errors"].splitlines()[-1]


@pytest.mark.gpu
def test_jobs_and_server_on_a_gpu(tmp_path: Path) -> None:
    found = run(
        tmp_path, ["extract", "several", "classify", "served"], "cuda", os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    )
    for name in ("extract", "several", "classify"):
        assert found[name]["code"] == 0, found[name]["errors"]
    assert engines(found["extract"]["summaries"]["."]) == (["torch cuda bf16"], [])
    assert found["several"]["summaries"]["resnet50"]["num_ok"] == 3
    assert engines(found["classify"]["summaries"]["."]) == (["torch cuda bf16"], ["torch cuda fp32"])
    assert found["served"] == {
        "stage": "done",
        "gpus": 0.25,
        "engines": ["cnn_engine:torch cuda bf16", "head_engine:torch cuda fp32"],
    }
