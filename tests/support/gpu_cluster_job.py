"""Jobs on a Ray of this process that counts a GPU.

`python -m tests.support.gpu_cluster_job FOLDER NAME…` runs the named jobs (see `JOBS`) one after the other and writes
their results as `FOLDER/NAME.json`.

With `VIDCLF_GPU_DEVICE=cpu` workers on the GPU compute on the CPU, so that no GPU is needed.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from tests.support.ensembles import MEASURED, ood_line, with_digest, write_small_ensemble
from tests.support.http import outcome, upload
from tests.support.videos import write_video
from vidclf.backbones import weights
from vidclf.config import ServeConfig
from vidclf.ensemble import calibration_file
from vidclf.ensemble.info import LookInfo, read_info, write_info
from vidclf.features.spec import FeatureSpec
from vidclf.schema import Look
from vidclf.server import serve
from vidclf.server.model_actor import served_model
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.video.sampling import SamplingPlan

ROOT = Path(__file__).resolve().parents[2]
NUM_FRAMES = 4
LITE0 = ("--backbone", "efficientnet_lite0")


def job(name: str, *arguments: str | Path, output: Path | None = None) -> dict[str, Any]:
    """Exit code, what was printed, and the summaries below `output` of a job in this process, which uses its Ray."""
    said, errors = io.StringIO(), io.StringIO()
    code: Any = None
    before = sys.argv
    sys.argv = [f"{name}.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    files = sorted(output.rglob("summary.json")) if output is not None else []
    summaries = {str(path.parent.relative_to(output)): json.loads(path.read_text()) for path in files if output}
    return {"code": code, "said": said.getvalue(), "errors": errors.getvalue(), "summaries": summaries}


def videos(folder: Path) -> Path:
    """An archive of three videos and a text."""
    root = folder / "archive"
    if not root.exists():
        for label in ("Animation", "Gaming"):
            (root / label / "made").mkdir(parents=True)
            write_video(root / label / "made" / "a-00.mp4", 12, gop=3)
        write_video(root / "Gaming" / "made" / "b-00.mp4", 9, gop=3)
        (root / "Gaming" / "made" / "c-00.mp4").write_text("not a video\n")
    return root


def manifest(folder: Path) -> Path:
    path = folder / "manifest.parquet"
    if not path.exists():
        made = job("index", "--input", videos(folder), "--output", path, "--split", "none")
        assert made["code"] == 0, made["errors"]
    return path


def small_ensemble(folder: Path) -> str:
    """Random members, whose first look is never sure enough."""
    directory = folder / "ensemble"
    if directory.exists():
        return str(directory)
    write_small_ensemble(directory, ["Animation", "Gaming"], NUM_FRAMES)
    info = read_info(str(directory))
    trust = calibration_file.read_trust(str(directory), info)
    digest = weights.weights_digest(weights.load_weights("efficientnet_lite0", "DEFAULT"))
    plan = SamplingPlan(mode="keyframes", num_frames=2)
    look = LookInfo(
        num_frames=2,
        feature_specs=[FeatureSpec.of("efficientnet_lite0", "DEFAULT", digest, plan)],
        calibration=MEASURED,
        ood=ood_line(),
        trust=replace(info.trust.plain, intercept=-50.0),
        val_accuracy=0.75,
    )
    seen = ValidationScores(
        trust_B=np.array([0.9] * 90 + [0.1] * 30, np.float32),
        correct_B=np.array([True] * 90 + [False] * 30),
        ood_B=np.zeros(120, np.float32),
        source_B=np.arange(120),
    )
    spaces = {**trust.spaces, Look.KEYFRAMES: next(iter(trust.spaces.values()))}
    trust = replace(trust, spaces=spaces, stages={Look.KEYFRAMES: seen}, full=dict.fromkeys(("plain", "tta"), seen))
    info = replace(info, stages={Look.KEYFRAMES: look})
    written = calibration_file.write_trust(str(directory), trust)
    write_info(str(directory), with_digest(info, written))
    return str(directory)


def extract(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    output = folder / name
    where = ("--manifest", manifest(folder), "--output", output, "--num-frames", str(NUM_FRAMES))
    return job("extract", *where, *arguments, output=output)


def classify(folder: Path, name: str, *arguments: str | Path) -> dict[str, Any]:
    output = folder / name
    given = arguments if "--features" in arguments else ("--input", videos(folder), *arguments)
    return job("classify", *given, "--ensemble", small_ensemble(folder), "--output", output, output=output)


def served(folder: Path, **values: Any) -> dict[str, Any]:
    """The answer to one upload."""
    config = ServeConfig(ensemble=small_ensemble(folder), port=0, **values)
    with serve.running(config, served_model(config)) as server:
        used = ray.cluster_resources()["GPU"] - ray.available_resources().get("GPU", 0.0)
        answered = outcome(server.url, upload(server.url, (videos(folder) / "Gaming/made/a-00.mp4").read_bytes()))
        counts = ray.get(server.model._parts.tally.read.remote())
    engines = sorted(name for name in counts if "_engine:" in name)
    return {"stage": answered["stage"], "gpus": used, "engines": engines}


def plan(folder: Path) -> dict[str, Any]:
    written = folder / "pools.yaml"
    where = ("--input", videos(folder), "--num-frames", str(NUM_FRAMES), "--write", written)
    found = job("plan", *where, "--cpus", "4", "--gpus", "1", "--num-videos", "100", *LITE0)
    return {**found, "written": written.read_text()}


JOBS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "extract": lambda folder: extract(folder, "extract", *LITE0),
    "several": lambda folder: extract(
        folder,
        "several",
        *("--backbone", "efficientnet_lite0,resnet50", "--weights", "DEFAULT,random"),
        *("--gpus-per-cnn-worker", "0.4", "--decode-workers", "2"),
    ),
    "on_cpus": lambda folder: classify(folder, "on_cpus", "--gpus-per-cnn-worker", "0"),
    "classify": lambda folder: classify(folder, "classify"),
    "progressive": lambda folder: classify(folder, "progressive", "--progressive"),
    "features": lambda folder: classify(folder, "features", "--features", folder / "several/efficientnet_lite0"),
    "too_many": lambda folder: extract(folder, "too_many", *LITE0, "--cnn-workers", "2"),
    "too_much": lambda folder: extract(folder, "too_much", *LITE0, "--gpus-per-cnn-worker", "1.5"),
    "served": served,
    "served_on_cpus": lambda folder: served(folder, gpus=0.0),
    "serve_too_much": lambda folder: job("serve", "--ensemble", small_ensemble(folder), "--gpus", "2", "--port", "0"),
    "serve": lambda folder: job("serve", "--ensemble", small_ensemble(folder), "--port", "0"),
    "plan": plan,
}


if __name__ == "__main__":
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    root = Path(sys.argv[1])
    for chosen in sys.argv[2:]:
        print(chosen, flush=True)  # which one it was that took long, or ended the process
        (root / f"{chosen}.json").write_text(json.dumps(JOBS[chosen](root)))
