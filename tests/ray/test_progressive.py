"""Progressive classification compared with a single pass: the stage of each decision, and no lost video. [Ray]"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
import torch

from tests.support.ensembles import MEASURED, ood_line, with_digest, write_small_ensemble
from tests.support.tiny_cnn import TINY, use_tiny_cnn
from tests.support.videos import write_keyframe_archive, write_video
from vidclf import schema
from vidclf.archive.manifest import list_archive
from vidclf.backbones.openvino_cache import converted
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights, weights_digest
from vidclf.classification.classify import classification
from vidclf.classification.progressive import ProgressivePlan
from vidclf.config import ClassifyConfig, EvaluateConfig
from vidclf.ensemble import calibration_file, files
from vidclf.ensemble.inference import Ensemble
from vidclf.ensemble.info import LookInfo, read_info, write_info
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.embed_stage import DecodeAndEmbed
from vidclf.pipeline.engines import conversion_source
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.reports.evaluate import evaluate
from vidclf.runs import audit as audit_module
from vidclf.runs import output_allowlist
from vidclf.runs.layout import Run
from vidclf.runs.outputs import contents
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import SUBSET_FRAMES, ValidationScores
from vidclf.uncertainty.risk_threshold import RiskThreshold
from vidclf.uncertainty.trust_score import TrustScore
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.sampling import SamplingPlan, evenly_spread

# Whole jobs, each with processes of its own.
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session")]

NUM_FRAMES = 48
NUM_VIDEOS = 8


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 60 different frames with a keyframe every 12 frames; plus a truncated video and a text file."""
    root = write_keyframe_archive(tmp_path_factory.mktemp("archive"), NUM_VIDEOS)
    whole = (root / "v0.mp4").read_bytes()
    (root / "w.mp4").write_bytes(whole[: len(whole) // 2])
    return root


def manifest_of(archive: Path) -> pa.Table:
    return list_archive(str(archive), labelled=False).manifest


@pytest.fixture(scope="module")
def tiny_cnn() -> Iterator[None]:
    """A tiny CNN in the place of the backbone: which stage decides is tested, not the features."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tiny_cnn(monkeypatch, full_width=True)
        yield


@dataclass(frozen=True)
class Looked:
    """Features of the good videos in one look, computed in this process."""

    spec: FeatureSpec
    features: list[Any]
    """one array [frames, features] per video"""


@pytest.fixture(scope="module")
def looks(archive: Path, tiny_cnn: None, ray_session: str) -> dict[str, Looked]:
    """The features of the first look and of the full look."""
    state = load_weights(*TINY)
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: None))
    looked = {}
    for name, mode, num_frames in ((Look.KEYFRAMES, "keyframes", 4), (Look.FULL, "uniform", NUM_FRAMES)):
        spec = FeatureSpec.of(*TINY, weights_digest(state), SamplingPlan(mode=mode, num_frames=num_frames))
        model = resolve(*TINY)
        setup = BackboneSetup(spec=spec, weights=TINY[1], state=state, model=model)
        job = PipelineJob(targets=(RunSpec(embeddings=(setup,), output_schema=schema.features(spec.feature_dim)),))
        # The conversion is then in the cache of the tests, where workers find it. They know no tiny CNN.
        network = ray.put(converted(conversion_source(spec), model, state))
        worker = DecodeAndEmbed(
            job=job, limits=DecodeLimits(), networks={spec.key: network}, precision="fp32", num_gpus=0, tally=tally
        )
        rows = pa.concat_tables(worker(manifest_of(archive)))
        embedded = pa.Table.from_struct_array(rows.filter(pc.is_null(rows["reject_reason"]))["target_0"])
        looked[name] = Looked(spec, [features_TD(row) for row in embedded["features"]])
    assert [len(look.features) for look in looked.values()] == [NUM_VIDEOS, NUM_VIDEOS]
    return looked


@pytest.fixture(scope="module")
def staged(looks: dict[str, Looked], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small ensemble whose early stages each decide half of the videos that reach them."""
    directory = tmp_path_factory.mktemp("ensemble")
    write_small_ensemble(directory, ["A", "B"], NUM_FRAMES, is_tiny=True)
    info = read_info(str(directory))
    trust = calibration_file.read_trust(str(directory), info)
    stages = neutral_stages(info.trust.plain, looks[Look.KEYFRAMES])
    trust = replace(trust, spaces=dict.fromkeys((Look.FULL, *stages), trust.spaces[Look.FULL]))
    bare = replace(info, stages=stages)
    members = [files.load_member(str(directory), bare, index) for index in range(2)]
    empty = np.array([])
    unfitted = ValidationScores(trust_B=empty, correct_B=empty, ood_B=empty, source_B=empty)
    ensemble = Ensemble(bare, members, replace(trust, stages=dict.fromkeys(stages, unfitted)), torch.device("cpu"))
    fits = halving_fits(ensemble, info.trust.plain, looks)
    stages = {name: replace(stage, trust=fits[name]) for name, stage in stages.items()}
    full = ValidationScores(
        trust_B=np.linspace(0.5, 1, 120, dtype=np.float32),
        correct_B=np.arange(120) % 8 > 0,
        ood_B=np.zeros(120),
        source_B=np.arange(120),
    )
    # The subset stage receives the videos that the keyframes leave undecided.
    early = {Look.KEYFRAMES: early_scores(num_trusted=60), Look.SUBSET: early_scores(num_trusted=90)}
    trust = replace(trust, stages=early, full=dict.fromkeys(("plain", "tta"), full))
    digest = calibration_file.write_trust(str(directory), trust)
    write_info(str(directory), with_digest(replace(info, stages=stages), digest))
    return str(directory)


def neutral_stages(plain: TrustScore, keyframes: Looked) -> dict[str, LookInfo]:
    """The early stages of `ensemble.json`, with a neutral calibration and the trust fit `plain`."""
    return {
        name: LookInfo(
            num_frames=num_frames,
            feature_specs=[keyframes.spec] if name == Look.KEYFRAMES else [],
            calibration=MEASURED,
            ood=ood_line(),
            trust=plain,
            val_accuracy=0.75,
        )
        for name, num_frames in ((Look.KEYFRAMES, 4), (Look.SUBSET, SUBSET_FRAMES))
    }


def halving_fits(ensemble: Ensemble, plain: TrustScore, looks: dict[str, Looked]) -> dict[str, TrustScore]:
    """Trust fits with which each early stage trusts half of the videos that the stage before it leaves undecided."""
    sequences_of = {
        Look.KEYFRAMES: looks[Look.KEYFRAMES].features,
        Look.SUBSET: [rows_TD[evenly_spread(len(rows_TD), SUBSET_FRAMES)] for rows_TD in looks[Look.FULL].features],
    }
    undecided = list(range(NUM_VIDEOS))
    fits = {}
    for name, sequences in sequences_of.items():
        # A steep slope spreads the confidences of the random members around the median of the undecided videos.
        logits_B = logit(ensemble([sequences], stage=name).probabilities_BC.max(axis=1))
        middle = float(np.median(logits_B[undecided]))
        fits[name] = replace(plain, weights=dict.fromkeys(plain.weights, 0.0), slope=1e4, intercept=-1e4 * middle)
        undecided = [video for video in undecided if logits_B[video] < middle]
    return fits


def early_scores(num_trusted: int) -> ValidationScores:
    """Scores of an early stage on 120 validation videos, of which the first 90 are right."""
    return ValidationScores(
        trust_B=np.array([0.9] * num_trusted + [0.1] * (120 - num_trusted), np.float32),
        correct_B=np.array([True] * 90 + [False] * 30),
        ood_B=np.zeros(120, np.float32),
        source_B=np.arange(120),
    )


def logit(values_B: Any) -> Any:
    return np.log(values_B) - np.log1p(-values_B)


def run(archive: Path, directory: str, output: Path, **values: Any) -> dict[str, Any]:
    config = ClassifyConfig(
        ensemble=directory,
        input=str(archive),
        output=str(output),
        precision="fp32",
        rows_per_shard=3,
        decode_workers=1,  # a second one would only take longer to start
        **values,
    )
    summaries = embed_videos(config, manifest_of(archive), *classification(config))
    assert summaries is not None
    return summaries[str(output)]


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    rows = pa.concat_tables(pq.read_table(path) for path in Run(str(output)).shards()).to_pylist()
    assert len({row["video_id"] for row in rows}) == len(rows)
    return {Path(row["video_uri"]).stem: row for row in rows}


@pytest.fixture(scope="module")
def outputs(archive: Path, staged: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    work = tmp_path_factory.mktemp("outputs")
    run(archive, staged, work / "plain")
    summary = run(archive, staged, work / "progressive", progressive=True)
    assert (summary["num_ok"], summary["num_quarantined"]) == (NUM_VIDEOS, 2)
    return {"plain": work / "plain", "progressive": work / "progressive"}


def test_half_is_decided_by_keyframes_half_of_the_rest_by_the_subset(outputs: dict[str, Path]) -> None:
    rows = rows_of(outputs["progressive"])
    by_stage = {
        name: [v for v, row in rows.items() if row["stage"] == name]
        for name in (Look.KEYFRAMES, Look.SUBSET, Look.FULL)
    }
    assert {name: len(videos) for name, videos in by_stage.items()} == {Look.KEYFRAMES: 4, Look.SUBSET: 2, Look.FULL: 2}
    frames = {name: {rows[video]["num_frames"] for video in videos} for name, videos in by_stage.items()}
    assert frames == {Look.KEYFRAMES: {4}, Look.SUBSET: {24}, Look.FULL: {48}}
    for row in rows.values():
        per_frame = ("attention", "pts_s", "is_black", "luma_mean", "sharpness", "is_near_duplicate")
        assert {len(row[name]) for name in per_frame} == {row["num_frames"]}
    summary = json.loads((outputs["progressive"] / "summary.json").read_text())
    counts = {name: (one["num_videos"], one["num_decided"]) for name, one in summary["passes"].items()}
    # The two unreadable videos count in the first pass, and the full pass does not try them again.
    assert counts == {Look.KEYFRAMES: (10, {Look.KEYFRAMES: 4}), Look.FULL: (4, {Look.SUBSET: 2, Look.FULL: 2})}
    assert all(one["worker_s_per_video"].keys() == {"decode", "cnn"} for one in summary["passes"].values())
    # fp32 is requested, so the engines do not depend on the processor.
    assert [list(summary[of]) for of in ("cnn_engines", "head_engines")] == [["openvino fp32"], ["torch cpu fp32"]]


def test_a_full_look_is_that_of_a_job_without_stages(outputs: dict[str, Path]) -> None:
    plain, progressive = rows_of(outputs["plain"]), rows_of(outputs["progressive"])
    assert {row["stage"] for row in plain.values()} == {Look.FULL}
    full = {video: row for video, row in progressive.items() if row["stage"] == Look.FULL}

    def look(row: dict[str, Any]) -> dict[str, Any]:
        # Verdict and level follow the threshold of the whole cascade; without stages they follow that of the full look.
        return {name: value for name, value in row.items() if name not in ("verdict", "label", "answer_level")}

    assert {video: look(row) for video, row in full.items()} == {video: look(plain[video]) for video in full}
    summaries = {name: json.loads((output / "summary.json").read_text()) for name, output in outputs.items()}
    assert {name: summary["risk"]["basis"] for name, summary in summaries.items()} == {
        "plain": "none",
        "progressive": "estimated",
    }
    assert {row["verdict"] for row in plain.values()} == {"abstained"}
    assert {row["verdict"] for row in progressive.values()} == {"accepted"}
    # The subset stage uses some of the same frames.
    for video, row in progressive.items():
        if row["stage"] == Look.SUBSET:
            assert row["pts_s"] == [plain[video]["pts_s"][index] for index in evenly_spread(48, 24)]


def test_the_report_shows_the_stages(outputs: dict[str, Path], staged: str, tmp_path: Path) -> None:
    output = outputs["progressive"]
    manifest = pq.read_table(Run(str(output)).manifest_file)
    place = manifest.column_names.index("label")
    labelled = manifest.set_column(place, manifest.schema.field(place), pa.array(["A"] * manifest.num_rows))
    pq.write_table(labelled, tmp_path / "manifest.parquet")
    where = {"manifest": str(tmp_path / "manifest.parquet"), "ensemble": staged, "output": str(tmp_path / "report")}
    result = evaluate(EvaluateConfig(predictions=str(output), **where))
    assert result is not None
    progress = result.progress
    assert progress is not None
    stages = {stage.name: (stage.num_frames, stage.num_decided, stage.share) for stage in progress.stages}
    assert stages == {Look.KEYFRAMES: (4, 4, 0.5), Look.SUBSET: (24, 2, 0.25), Look.FULL: (48, 2, 0.25)}
    # Of 120 validation videos the early looks are right on 90 and the full look is right on 105. The keyframes decide
    # 60 videos and the subset 30, all correctly. Of the last 30 the full look gets every eighth wrong, which is 3.
    assert [stage.validation_accuracy for stage in progress.stages] == [0.75, 0.75, 0.875]
    assert progress.validation_accuracy == 117 / 120
    assert result.risk is not None
    assert (result.risk["basis"], result.risk["num_accepted"], result.risk["num_errors"]) == ("estimated", 120, 3)
    passes = result.summary["passes"] if result.summary else {}
    first_s, full_s = (sum(passes[name]["worker_s_per_video"].values()) for name in (Look.KEYFRAMES, Look.FULL))
    assert progress.s_per_video == pytest.approx((10 * first_s + 4 * full_s) / 10)
    assert {share.name: share.num_videos for share in result.detail.by["stage"]} == {
        Look.KEYFRAMES: 4,
        Look.SUBSET: 2,
        Look.FULL: 2,
    }
    page = (tmp_path / "report/index.html").read_text()
    assert '<section id="stages">' in page
    assert "decoding now gives other frames" not in page
    plain = evaluate(EvaluateConfig(predictions=str(outputs["plain"]), **{**where, "output": str(tmp_path / "plain")}))
    assert plain is not None
    assert plain.progress is None
    assert "stage" not in plain.detail.by


def test_the_log_describes_the_stages() -> None:
    counts = dict.fromkeys(("num_accepted", "num_errors", "num_sources", "num_wrong_sources", "num_videos"), 0)
    risk_threshold = RiskThreshold(
        threshold=0.61, basis="certified", estimate=0.0, early={Look.KEYFRAMES: 0.61}, **counts
    )
    target = RunSpec(embeddings=(), output_schema=pa.schema([]))
    for fitted, why in (
        ({Look.KEYFRAMES, Look.SUBSET}, "validation does not support it, or supports more without it"),
        # The subset is left out of an ensemble whose features have fewer than 48 frames.
        ({Look.KEYFRAMES}, "the ensemble was not calibrated for it"),
    ):
        plan = ProgressivePlan(first=target, full=target, risk_threshold=risk_threshold, fitted=frozenset(fitted))
        assert plan.describe() == (
            "stage keyframes: decides videos with a trust score of at least 0.61\n"
            f"stage subset: left out, because {why}"
        )


def test_every_video_ends_in_one_state(outputs: dict[str, Path]) -> None:
    for output in outputs.values():
        audit = audit_module.audit(str(output))
        assert (audit.differences, audit.state.reasons) == ([], {"not_a_video": 1, "truncated": 1})
        assert contents(output_allowlist.PREDICTIONS, str(output)).foreign == []


def test_what_is_lost_is_taken_over_again_and_new_videos_are_added(
    archive: Path, staged: str, outputs: dict[str, Path]
) -> None:
    output = outputs["progressive"]
    before = rows_of(output)
    Path(Run(str(output)).shards()[0]).unlink()
    Path(Run(str(output)).quarantine_shards()[0]).unlink()
    assert len(rows_of(output)) < NUM_VIDEOS
    write_video(archive / "y.mp4", 60, size=(48, 64))
    try:
        summary = run(archive, staged, output, progressive=True)
    finally:
        (archive / "y.mp4").unlink()
    assert (summary["num_input_videos"], summary["num_ok"], summary["num_quarantined"]) == (11, 9, 2)
    assert audit_module.audit(str(output)).differences == []
    after = rows_of(output)
    assert after.pop("y")["video_id"]
    assert after == before


def test_other_settings_or_ensembles_are_refused(
    archive: Path, staged: str, outputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="holds a run with"):
        run(archive, staged, outputs["progressive"])
    bare = write_small_ensemble(tmp_path / "bare", ["A", "B"], NUM_FRAMES, is_tiny=True)
    with pytest.raises(ConfigError, match="--progressive needs an ensemble with a first look"):
        run(archive, bare, tmp_path / "out", progressive=True)
    for name, value in (("features", ("f",)), ("save_features", "f"), ("segments", 1.0)):
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} must be left out with --progressive"):
            ClassifyConfig(
                ensemble="e",
                output="o",
                progressive=True,
                **{"input": None if name == "features" else "i", name: value},
            )
