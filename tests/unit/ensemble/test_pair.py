"""Two ensembles as one cascade: which held-out videos they share, and which pairs are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.ensemble_pairs import held_out, scores
from tests.support.ensembles import write_small_ensemble
from tests.support.split_records import record, recorded
from vidclf.ensemble import calibration_file
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.ensemble.pair import Calibrated, EnsemblePair
from vidclf.errors import ConfigError
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.prediction_sets import TruthScores
from vidclf.uncertainty.sublabel_threshold import SublabelScores

TEN = held_out(10)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("pair")
    write_small_ensemble(root / "first", ["A", "B"], 8, is_tiny=True, sampling="keyframes")
    write_small_ensemble(root / "second", ["A", "B"], 16, is_tiny=True, backbone="efficientnet_lite1")
    return {name: str(root / name) for name in ("first", "second")}


def calibrated(
    directory: str, full: ValidationScores, rows: Sequence[dict[str, Any]] = TEN, doubt: str = "", **values: Any
) -> Calibrated:
    """The ensemble with these held-out videos; `values` replace fields of its description."""
    info: EnsembleInfo = replace(read_info(directory), **values)
    trust = calibration_file.read_trust(directory, read_info(directory))
    trust = replace(trust, full=dict.fromkeys(("plain", "tta"), full))
    return Calibrated(location=directory, info=info, trust=trust, record=record(*rows, doubt=doubt))


def test_the_scores_of_both_are_joined_by_video(directories: dict[str, str]) -> None:
    trust = np.arange(10) / 10
    # The first ensemble has the videos in reverse order, and another content of v0.
    rows = [TEN[0], *reversed(TEN[2:]), {**TEN[1], "content_digest": "other"}]
    first = calibrated(directories["first"], scores(trust, trust > 0.45), rows)
    second = calibrated(directories["second"], scores(trust, trust > 0.25))
    pair = EnsemblePair.of(first, second)
    expected = [round((9 - video) / 10, 1) for video in range(1, 10)]
    assert pair.trust.stages[Look.KEYFRAMES].trust_B.round(1).tolist() == pytest.approx(expected)
    assert pair.trust.full["plain"].trust_B.tolist() == pytest.approx(trust[1:].tolist())
    assert pair.trust.stages[Look.KEYFRAMES].correct_B.tolist() == [True] * 4 + [False] * 5
    assert pair.trust.full["tta"].correct_B.tolist() == [False] * 2 + [True] * 7
    assert pair.info.stages[Look.KEYFRAMES].feature_specs == [first.info.backbones[0].feature_spec]
    assert pair.info.stages[Look.KEYFRAMES].num_frames == 8
    assert pair.info.members == second.info.members
    assert pair.first == first.info


def test_the_later_look_is_judged_on_what_the_first_leaves_undecided(directories: dict[str, str]) -> None:
    """The risk is that of the cascade: the second ensemble alone supports it, the hard half of the videos does not."""
    rows = held_out(200)
    easy = np.arange(200) < 100
    # Both are sure of the easy half. The first ensemble is wrong on a fifth of it, so that it may decide nothing.
    second = scores(np.where(easy, 0.99, 0.9), np.ones(200, bool))
    wrong = scores(np.where(easy, 0.99, 0.1), np.arange(200) % 5 > 0)
    right = scores(np.where(easy, 0.99, 0.1), easy)
    for full, early in ((wrong, {}), (right, {"keyframes": 0.9})):
        pair = EnsemblePair.of(
            calibrated(directories["first"], full, rows), calibrated(directories["second"], second, rows)
        )
        chosen = pair.trust.stage_thresholds("plain", 0.05, False)
        assert (chosen.basis, list(chosen.early)) == ("certified", list(early))
        assert (chosen.num_accepted, chosen.num_errors) == (200, 0)
    # A second ensemble that is wrong on a third of what the first leaves: only the easy half is accepted.
    third = scores(np.where(easy, 0.99, 0.9), easy | (np.arange(200) % 3 > 0))
    pair = EnsemblePair.of(
        calibrated(directories["first"], right, rows), calibrated(directories["second"], third, rows)
    )
    chosen = pair.trust.stage_thresholds("plain", 0.05, False)
    assert (chosen.num_accepted, chosen.num_errors, list(chosen.early)) == (100, 0, ["keyframes"])


def test_videos_are_of_one_source_if_either_ensemble_takes_them_for_that(directories: dict[str, str]) -> None:
    trust, right = [0.5] * 10, [True] * 10
    first = calibrated(directories["first"], scores(trust, right, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]))
    second = calibrated(directories["second"], scores(trust, right, [0, 1, 1, 2, 3, 4, 5, 6, 7, 7]))
    pair = EnsemblePair.of(first, second)
    for found in (pair.trust.full["plain"], pair.trust.stages[Look.KEYFRAMES]):
        assert found.source_B.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 6]


def test_sublabels_and_the_confidence_of_left_out_members_are_joined_too(directories: dict[str, str]) -> None:
    rows = [recorded("t", "train"), *(recorded(f"v{index}", "val") for index in range(9))]
    crossed = {"training": {"calibration": "cross", "num_left_out_folds": 2}}
    confident = replace(scores([0.5] * 10, [True] * 10), confidence_B=np.arange(10, dtype=np.float32))
    known = SublabelScores(trust_B=np.arange(10, dtype=np.float32), right_B=np.ones(10, np.int64))
    both = [
        calibrated(directories[name], confident, order, **crossed)
        for name, order in (("first", rows[::-1]), ("second", rows))
    ]
    first, second = (
        replace(one, trust=replace(one.trust, sublabels=dict.fromkeys(("plain", "tta"), known))) for one in both
    )
    pair = EnsemblePair.of(first, second)
    # A cross calibration is fitted to the train video too.
    assert pair.trust.stages[Look.KEYFRAMES].confidence_B is not None
    assert pair.trust.stages[Look.KEYFRAMES].confidence_B.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert pair.trust.sublabels["plain"].trust_B.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert pair.trust.sublabels["keyframes"].trust_B.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_what_is_no_pair_is_refused_in_one_line(directories: dict[str, str]) -> None:
    ten = scores([0.5] * 10, [True] * 10)
    first, second = (calibrated(directories[name], ten) for name in ("first", "second"))
    flag, remedy = f"--first-ensemble {directories['first']}", "train both with one manifest that holds the splits"

    def refused(first: Calibrated, second: Calibrated) -> str:
        with pytest.raises(ConfigError) as error:
            EnsemblePair.of(first, second)
        return str(error.value)

    assert refused(second, first).endswith(
        "must be trained on keyframes, is trained on uniform frames; extract them with jobs/extract.py --sampling "
        "keyframes --num-frames 8, and run jobs/train.py with these --features"
    )
    assert refused(calibrated(directories["first"], ten, classes=["B", "A"]), second) == (
        f"{flag}: must have the classes of --ensemble, ['A', 'B'], has ['B', 'A']; train both with one manifest"
    )
    crossed = calibrated(directories["first"], ten, training={"calibration": "cross"})
    assert "must have the calibration of --ensemble, validation, has cross" in refused(crossed, second)
    doubted = calibrated(directories["second"], ten, doubt="of an earlier version")
    assert refused(first, doubted) == (
        f"--ensemble {directories['second']}: of an earlier version; two ensembles need records of their splits, so "
        "train it again"
    )
    # The first ensemble was trained on a validation video of the second.
    trained = calibrated(directories["first"], ten, [*TEN[:1], recorded("v0", "train"), *held_out(11)[2:]])
    assert refused(trained, calibrated(directories["second"], scores([0.5] * 11, [True] * 11), held_out(11))) == (
        f"{flag}: its train and validation videos must be in the same splits of --ensemble, 1 are not (for example "
        f"/none/v0); {remedy}"
    )
    longer = calibrated(directories["second"], scores([0.5] * 12, [True] * 12), held_out(12))
    assert refused(first, longer) == (
        f"{flag}: must share at least 90% of the 12 held-out videos of --ensemble (equal in id, content and label), "
        f"shares 10; {remedy}"
    )
    truth = TruthScores(truth_B=np.ones(10), label_B=np.array([0] * 9 + [1]), source_B=np.arange(10))
    other = replace(first, trust=replace(first.trust, truth={"plain": truth}))
    assert "must hold the videos of the calibration in their order, but labels differ" in refused(other, second)
    assert refused(calibrated(directories["first"], ten, TEN[:-1]), second) == (
        f"{flag}: splits.parquet must hold the 10 videos of the calibration, holds 9; run jobs/train.py again with the "
        "same flags, which keeps the members"
    )
