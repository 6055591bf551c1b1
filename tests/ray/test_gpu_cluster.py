"""Jobs on a cluster that counts a GPU without having one: the pipeline, what workers reserve, and refusals.

Workers on the GPU compute on the CPU instead. Only the tests of a GPU that torch cannot use leave the device alone.
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

# The jobs need a cluster that counts a GPU, in a process of its own.
pytestmark = pytest.mark.system

UNUSABLE = ("extract", "serve")
"""Names in `JOBS` that run with a GPU that torch cannot use."""


def run(folder: Path, names: list[str], device: str, gpu: str = "GPU-made-up") -> dict[str, dict[str, Any]]:
    """Results of jobs on a Ray with the GPU `gpu`. By default no machine has it: Ray counts it, and CUDA finds none."""
    environment = {**os.environ, "VIDCLF_GPU_DEVICE": device, "CUDA_VISIBLE_DEVICES": gpu}
    command = [sys.executable, "-m", "tests.support.gpu_cluster_job", str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Results of the other jobs, with the CPU in the place of the GPU."""
    return run(tmp_path_factory.mktemp("simulated"), [name for name in JOBS if name not in UNUSABLE], "cpu")


@pytest.fixture(scope="module")
def unusable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return run(tmp_path_factory.mktemp("unusable"), list(UNUSABLE), "cuda")


def engines(summary: dict[str, Any]) -> tuple[list[str], list[str]]:
    return list(summary["cnn_engines"]), list(summary["head_engines"])


def test_extract_runs_several_backbones_in_workers_on_the_gpu(simulated: dict[str, dict[str, Any]]) -> None:
    several = simulated["several"]
    assert several["code"] == 0, several["stderr"]
    assert sorted(several["summaries"]) == ["efficientnet_lite0", "resnet50"]
    for summary in several["summaries"].values():
        assert (summary["num_ok"], summary["num_quarantined"]) == (3, 1)
        # torch, because only workers without a GPU run OpenVINO.
        assert engines(summary) == (["torch cpu fp32"], [])


def test_classify_runs_head_and_cnn_in_the_same_workers(simulated: dict[str, dict[str, Any]]) -> None:
    for name in ("classify", "progressive", "features"):
        assert simulated[name]["code"] == 0, simulated[name]["stderr"]
    assert engines(simulated["classify"]["summaries"]["."]) == (["torch cpu fp32"], ["torch cpu fp32"])
    assert engines(simulated["features"]["summaries"]["."]) == ([], ["torch cpu fp32"])
    assert {simulated[name]["summaries"]["."]["num_ok"] for name in ("classify", "progressive", "features")} == {3}


def test_both_passes_of_a_progressive_job_run_on_the_gpu(simulated: dict[str, dict[str, Any]]) -> None:
    summaries = simulated["progressive"]["summaries"]
    assert sorted(summaries) == [".", "_passes/full", "_passes/keyframes"]
    assert {tuple(engines(summary)[0]) for summary in summaries.values()} == {("torch cpu fp32",)}


def test_without_a_share_nothing_takes_the_gpu(simulated: dict[str, dict[str, Any]]) -> None:
    (summary,) = simulated["on_cpus"]["summaries"].values()
    cnn, head = engines(summary)
    assert (cnn[0].split()[0], head[0].split()[:2]) == ("openvino", ["torch", "cpu"])
    assert simulated["served_on_cpus"]["gpus"] == 0
    assert simulated["served_on_cpus"]["engines"][0].startswith("cnn_engine:openvino ")


def test_a_server_takes_a_quarter_of_the_gpu(simulated: dict[str, dict[str, Any]]) -> None:
    assert simulated["served"] == {
        "stage": "done",
        "gpus": 0.25,
        "engines": ["cnn_engine:torch cpu fp32", "head_engine:torch cpu fp32"],
    }


def test_a_plan_measures_the_device_of_the_gpu(simulated: dict[str, dict[str, Any]]) -> None:
    plan = simulated["plan"]
    assert plan["code"] == 0, plan["stderr"]
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
    simulated: dict[str, dict[str, Any]], name: str, message: str
) -> None:
    refused = simulated[name]
    assert (refused["code"], refused["stdout"], refused["summaries"]) == (2, "", {})
    assert refused["stderr"].count("\n") == 1
    assert refused["stderr"].endswith(f"error: {message}\n")


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_gpu_that_torch_cannot_use_is_one_line_that_names_the_driver(
    unusable: dict[str, dict[str, Any]], name: str
) -> None:
    refused = unusable[name]
    assert refused["code"] == 2, refused["stderr"]
    assert f"{name}.py: error: Ray counts a GPU that torch cannot use: torch " in refused["stderr"].splitlines()[-1]
    assert "NVIDIA's driver 580 or later" in refused["stderr"].splitlines()[-1]


@pytest.mark.gpu
def test_jobs_and_server_on_a_gpu(tmp_path: Path) -> None:
    results = run(
        tmp_path, ["extract", "several", "classify", "served"], "cuda", os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    )
    for name in ("extract", "several", "classify"):
        assert results[name]["code"] == 0, results[name]["stderr"]
    assert engines(results["extract"]["summaries"]["."]) == (["torch cuda bf16"], [])
    assert results["several"]["summaries"]["resnet50"]["num_ok"] == 3
    assert engines(results["classify"]["summaries"]["."]) == (["torch cuda bf16"], ["torch cuda fp32"])
    assert results["served"] == {
        "stage": "done",
        "gpus": 0.25,
        "engines": ["cnn_engine:torch cuda bf16", "head_engine:torch cuda fp32"],
    }
