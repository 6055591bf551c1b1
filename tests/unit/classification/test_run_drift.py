"""Drift of a finished run, from files of the layout that the pipeline writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vidclf import storage
from vidclf.classification import run_drift
from vidclf.classification.run_drift import RunDrift
from vidclf.ensemble.fold_confidence import FoldConfidence, fold_of_run
from vidclf.ensemble.info import EnsembleInfo
from vidclf.runs.layout import Run
from vidclf.uncertainty import drift
from vidclf.uncertainty.drift import Scores
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.ood import OodLine


def described(**training: Any) -> EnsembleInfo:
    """What `RunDrift` reads of an ensemble's description."""
    line = OodLine(distances=[1.0], line=1.0, level=0.95, num_videos=40)
    info: Any = SimpleNamespace(classes=["cat", "dog"], training=training, trust=SimpleNamespace(ood=line))
    described_info: EnsembleInfo = info
    return described_info


def measured(run: str, info: EnsembleInfo | None = None) -> dict[str, Any]:
    calibration = Scores.of(np.linspace(0.5, 1, 40), np.linspace(0.2, 1.02, 40), list(range(40)))
    return RunDrift(info=info or described(class_videos=[30, 10]), calibration=calibration, basis="certified")(run)


def write(directory: Path, ood_B: np.ndarray, cats: int, sources: int) -> str:
    """A run with two shards, whose videos are from `sources` sources in turn; the first `cats` are cats."""
    ids = [f"{index:08x}" for index in range(len(ood_B))]
    storage.publish_table(
        Run(str(directory)).manifest_file,
        pa.table({"video_id": ids, "group": [f"source {index % sources}" for index in range(len(ids))]}),
    )
    rows = pa.table(
        {
            "video_id": ids,
            "trust_score": pa.array(np.linspace(0.5, 1, len(ids)), pa.float32()),
            "ood_score": pa.array(ood_B, pa.float32()),
            "probabilities": pa.array(
                [[0.99, 0.01] if index < cats else [0.01, 0.99] for index in range(len(ids))], pa.list_(pa.float32(), 2)
            ),
        }
    )
    half = len(ids) // 2
    for number, part in enumerate((rows.slice(half), rows.slice(0, half))):
        storage.publish_table(f"{directory}/part-{number:06d}.parquet", part)
    return str(directory)


def test_a_run_like_calibration(tmp_path: Path) -> None:
    entry = measured(write(tmp_path, np.linspace(0.2, 1.02, 60), cats=45, sources=60))["drift"]
    assert entry["found"] == []
    assert entry["num_videos"] == 60
    assert entry["num_effective_sources"] == 60
    assert entry["beyond_ood_line"]["share"] == pytest.approx(2 / 60)
    assert entry["sentence"].startswith("drift: none found, 3.3 % of 60 videos are beyond the OOD line")
    cats = entry["class_shares"]["cat"]
    assert cats["calibration"] == 0.75
    assert cats["estimated"] == pytest.approx(0.75, abs=0.02)
    assert cats["interval_95"][0] < 0.7 < 0.8 < cats["interval_95"][1]


def test_a_run_beyond_the_line(tmp_path: Path) -> None:
    entry = measured(write(tmp_path, np.linspace(0.9, 2, 60), cats=6, sources=30))["drift"]
    assert entry["found"] == ["beyond_ood_line", "ood_score"]
    assert entry["num_effective_sources"] == 30
    assert entry["class_shares"]["dog"]["estimated"] == pytest.approx(0.9, abs=0.03)


def test_a_sample_of_the_smallest_ids_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_drift, "MAX_VIDEOS", 20)
    entry = measured(write(tmp_path, np.r_[np.full(20, 0.5), np.full(40, 3.0)], cats=45, sources=60))["drift"]
    assert entry["num_videos"] == 20
    assert entry["beyond_ood_line"]["share"] == 0


def test_an_ensemble_without_numbers_per_class_gives_no_class_shares(tmp_path: Path) -> None:
    entry = measured(write(tmp_path, np.linspace(0.2, 1.02, 60), cats=45, sources=60), described())["drift"]
    assert entry["class_shares"] is None


def test_a_run_without_a_video_has_no_drift(tmp_path: Path) -> None:
    assert measured(str(tmp_path)) == {}


def test_after_a_cross_calibration_the_members_of_one_fold_judge(tmp_path: Path) -> None:
    # Each member is sure of its own class: the average of both is not sure at all, as no member alone ever is.
    run = write(tmp_path, np.linspace(0.2, 1.02, 60), cats=45, sources=60)
    for shard in Run(run).shards():
        rows = storage.read_table(shard)
        votes = pa.array([[[0.9, 0.1], [0.2, 0.8]]] * rows.num_rows, pa.list_(pa.list_(pa.float32(), 2)))
        with_votes = rows.append_column("member_probabilities", votes)
        storage.publish_table(shard, with_votes.append_column("stage", pa.array(["full"] * rows.num_rows)))
    confidence = FoldConfidence(num_members=2, num_folds=2, linear_weight=None, temperature=1.0)
    measured_B = run_drift.fold_confidences(
        pa.table({"video_id": ["a", "b"], "stage": ["full"] * 2, "member_probabilities": votes[:2]}),
        {"full": confidence},
    )
    expected_B = [0.9 if fold == 0 else 0.8 for fold in fold_of_run(["a", "b"], 2)]
    np.testing.assert_allclose(measured_B, expected_B, rtol=1e-6)
    rows = pa.table({"video_id": ["a", "b"], "stage": ["full", "keyframes"], "member_probabilities": votes[:2]})
    with pytest.raises(ValueError, match="stage must be one of full, the rows have keyframes"):
        run_drift.fold_confidences(rows, {"full": confidence})
    calibration = Scores.of(np.full(40, 0.8), np.linspace(0.2, 1.02, 40), list(range(40)), drift.CONFIDENCE)
    compared = RunDrift(info=described(), calibration=calibration, basis="certified", confidences={"full": confidence})(
        run
    )["drift"]
    assert compared["p_values"].keys() == {"beyond_ood_line", "ood_score", "fold_confidence"}
    assert (compared["found"], compared["distances"]["fold_confidence"]) == ([], 0)


@pytest.mark.parametrize(
    ("is_crossed", "confidence_B", "expected"),
    [
        (False, None, ("trust_score", [0.1, 0.2])),
        (True, np.array([0.7, 0.8], np.float32), ("fold_confidence", [0.7, 0.8])),
        (True, None, ("fold_confidence", None)),  # by an earlier version: two tests remain
    ],
)
def test_the_scores_of_the_calibration(
    is_crossed: bool, confidence_B: np.ndarray | None, expected: tuple[str, list[float] | None]
) -> None:
    full = ValidationScores(
        trust_B=np.array([0.1, 0.2], np.float32),
        correct_B=np.ones(2, bool),
        ood_B=np.array([0.5, 0.6], np.float32),
        source_B=np.arange(2),
        confidence_B=confidence_B,
    )
    trust: Any = SimpleNamespace(full={"plain": full}, stages={})
    threshold: Any = SimpleNamespace(early={})
    scores = run_drift.calibration_scores(trust, threshold, "plain", is_crossed=is_crossed)
    assert scores.measure == expected[0]
    assert scores.trust_B is None if expected[1] is None else np.allclose(scores.trust_B, expected[1])
