"""A progressive job whose first look is taken by an ensemble with a backbone of its own. [Ray]"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
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

from tests.support.ensemble_pairs import held_out, recalibrate, scores
from tests.support.ensembles import write_small_ensemble
from tests.support.tiny_cnn import TINY, use_tiny_cnn
from tests.support.videos import write_keyframe_archive
from vidclf import schema
from vidclf.archive.manifest import list_archive
from vidclf.backbones.openvino_cache import converted
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights
from vidclf.classification.classify import classification
from vidclf.config import ClassifyConfig, EvaluateConfig
from vidclf.ensemble import files
from vidclf.ensemble.info import read_info
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.embed_stage import DecodeAndEmbed
from vidclf.pipeline.engines import conversion_source
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.reports.evaluate import evaluate
from vidclf.runs import audit as audit_module
from vidclf.runs.layout import Run
from vidclf.schema import Look
from vidclf.uncertainty.trust_score import TrustScore
from vidclf.video.decoder_process import DecodeLimits

# Whole jobs, each with processes of its own.
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session")]

NUM_VIDEOS = 4
NUM_FRAMES = 16


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 60 different frames with a keyframe every 12 frames; plus a text file."""
    return write_keyframe_archive(tmp_path_factory.mktemp("archive"), NUM_VIDEOS)


def manifest_of(archive: Path) -> pa.Table:
    return list_archive(str(archive), labelled=False).manifest


@pytest.fixture(scope="module")
def pair(archive: Path, ray_session: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Directories of the first and the second ensemble. The first one trusts half of the videos.

    Tiny CNNs are in the places of their backbones.
    """
    root = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tiny_cnn(monkeypatch, full_width=True)
        first = write_small_ensemble(root / "first", ["A", "B"], 4, is_tiny=True, sampling="keyframes")
        second = write_small_ensemble(root / "second", ["A", "B"], NUM_FRAMES, is_tiny=True, backbone="resnet50")
        rows = held_out(120)
        # The first ensemble decides 90 videos, all correctly. Of the other 30 the second gets every eighth wrong.
        decided = [True] * 90 + [False] * 30
        trust = halving_trust(first, features(archive, [first, second])[0])
        recalibrate(first, scores([0.9 if easy else 0.1 for easy in decided], decided), rows, plain=trust)
        recalibrate(second, scores(np.linspace(0.5, 1, 120).tolist(), [index % 8 > 0 for index in range(120)]), rows)
        yield first, second


def features(archive: Path, directories: list[str]) -> list[list[Any]]:
    """Per ensemble, the features of the videos. Their networks are then in the cache of the tests, where workers find
    them: they know no tiny CNN."""
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: None))
    found = []
    for directory in directories:
        spec = read_info(directory).backbones[0].feature_spec
        model, state = resolve(spec.backbone, TINY[1]), load_weights(spec.backbone, TINY[1])
        network = ray.put(converted(conversion_source(spec), model, state))
        setup = BackboneSetup(spec=spec, weights=TINY[1], state=state, model=model)
        job = PipelineJob(targets=(RunSpec(embeddings=(setup,), output_schema=schema.features(spec.feature_dim)),))
        worker = DecodeAndEmbed(
            job=job, limits=DecodeLimits(), networks={spec.key: network}, precision="fp32", num_gpus=0, tally=tally
        )
        rows = pa.concat_tables(worker(manifest_of(archive)))
        embedded = pa.Table.from_struct_array(rows.filter(pc.is_null(rows["reject_reason"]))["target_0"])
        found.append([features_TD(row) for row in embedded["features"]])
    return found


def halving_trust(directory: str, sequences: list[Any]) -> TrustScore:
    """A trust score with which an ensemble trusts the half of the videos that it is most confident about."""
    ensemble = files.load(directory, torch.device("cpu"))
    confidence_B = ensemble([sequences]).probabilities_BC.max(axis=1)
    middle = float(np.median(np.log(confidence_B) - np.log1p(-confidence_B)))
    plain = ensemble.info.trust.plain
    return replace(plain, weights=dict.fromkeys(plain.weights, 0.0), slope=1e4, intercept=-1e4 * middle)


def run(archive: Path, pair: tuple[str, str], output: Path, **values: Any) -> dict[str, Any]:
    first, second = pair
    config = ClassifyConfig(
        ensemble=second,
        first_ensemble=first,
        progressive=True,
        input=str(archive),
        output=str(output),
        precision="fp32",
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


def test_each_look_has_its_own_ensemble_and_backbone(
    archive: Path, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    summary = run(archive, pair, output)
    assert (summary["num_ok"], summary["num_quarantined"]) == (NUM_VIDEOS, 1)
    assert "stage keyframes: decides videos with a trust score of at least" in capsys.readouterr().err
    first_id, second_id = (read_info(directory).ensemble_id for directory in pair)
    rows = rows_of(output)
    decided = sorted((row["stage"], row["ensemble_id"], row["num_frames"]) for row in rows.values())
    assert decided == [(Look.FULL, second_id, NUM_FRAMES)] * 2 + [(Look.KEYFRAMES, first_id, 4)] * 2
    # The risk is that of the cascade on the held-out videos: 90 decided by the first ensemble, then 3 errors of 30.
    assert (summary["risk"]["num_accepted"], summary["risk"]["num_errors"]) == (120, 3)
    identity = Run(str(output)).identity()
    assert (identity["ensemble_id"], identity["settings"]["first_ensemble_id"]) == (second_id, first_id)
    backbones = [
        json.loads(Path(Run(str(output / "_passes" / name)).identity_file).read_text())["feature_specs"][0]["backbone"]
        for name in (Look.KEYFRAMES, Look.FULL)
    ]
    assert backbones == ["efficientnet_lite0", "resnet50"]
    audit = audit_module.audit(str(output))
    assert (audit.differences, audit.state.reasons) == ([], {"not_a_video": 1})

    # What is lost is taken over again from the rounds.
    Path(Run(str(output)).shards()[0]).unlink()
    run(archive, pair, output)
    assert rows_of(output) == rows
    with pytest.raises(ConfigError, match="holds a run with"):
        run(archive, (other_first(pair[0], tmp_path), pair[1]), output)

    check_report(output, pair, tmp_path)


def other_first(directory: str, tmp_path: Path) -> str:
    """Another first ensemble: it has the same members and another trust score."""
    other = shutil.copytree(directory, tmp_path / "other")
    plain = read_info(str(other)).trust.plain
    decided = [True] * 90 + [False] * 30
    recalibrate(
        str(other),
        scores([0.9 if easy else 0.1 for easy in decided], decided),
        held_out(120),
        plain=replace(plain, slope=2e4),
    )
    return str(other)


def check_report(output: Path, pair: tuple[str, str], tmp_path: Path) -> None:
    """The report has the costs and accuracies of both looks, each of its own ensemble."""
    # The job's command writes it.
    (output / "run_config.yaml").write_text(f"first_ensemble: {pair[0]}\nensemble: {pair[1]}\n")
    manifest = pq.read_table(Run(str(output)).manifest_file)
    place = manifest.column_names.index("label")
    labelled = manifest.set_column(place, manifest.schema.field(place), pa.array(["A"] * manifest.num_rows))
    pq.write_table(labelled, tmp_path / "manifest.parquet")
    found = evaluate(
        EvaluateConfig(
            predictions=str(output), manifest=str(tmp_path / "manifest.parquet"), output=str(tmp_path / "report")
        )
    )
    assert found is not None
    assert {share.name: share.num_videos for share in found.detail.by["stage"]} == {Look.KEYFRAMES: 2, Look.FULL: 2}
    assert found.progress is not None
    stages = [(one.name, one.num_frames, one.num_decided, one.validation_accuracy) for one in found.progress.stages]
    assert stages == [(Look.KEYFRAMES, 4, 2, 0.75), (Look.FULL, NUM_FRAMES, 2, 0.875)]
    assert found.progress.validation_accuracy == 117 / 120
