"""Calibration on the validation split, with features whose results are known."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.features import half_and_half, pair
from vidclf.config import ModelConfig
from vidclf.ensemble import files
from vidclf.ensemble.inference import Ensemble
from vidclf.ensemble.info import FittedBackbone, MembersInfo, write_info
from vidclf.ensemble.linear_member import LinearMember
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.training.calibrate import calibrate
from vidclf.training.calibration_fit import fit_calibration
from vidclf.training.linear_crossing import LinearFits
from vidclf.training.linear_fit import WeighedVotes
from vidclf.training.member_folds import plan_member_folds
from vidclf.uncertainty.folds import cross_fitted
from vidclf.uncertainty.frame_agreement import frame_agreement
from vidclf.uncertainty.ood import FeatureSpace, appearance, motion
from vidclf.video.sampling import SamplingPlan, evenly_spread

SPEC = FeatureSpec(
    backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
)
MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))


def test_each_video_gets_its_value_from_the_other_folds() -> None:
    values_B = np.array([1.0, 2.0, 4.0, 8.0])
    fitted_B = cross_fitted(np.array([0, 0, 1, 2]), lambda inside: values_B[inside].sum(), lambda total, inside: total)
    assert fitted_B.tolist() == [12.0, 12.0, 11.0, 7.0]
    assert cross_fitted(np.zeros(2, int), lambda inside: inside.sum(), lambda total, inside: total).tolist() == [2, 2]


def test_the_error_after_is_that_of_videos_the_temperature_has_not_seen() -> None:
    # Two folds of 4,000 videos, 3,000 of them right at 98 %: each fold lowers the other's confidence to 75 %.
    sure = 1 / (1 + np.exp(-4))
    probabilities_VMBC = np.tile(np.array([sure, 1 - sure], np.float32), (1, 1, 8000, 1))
    labels_B, folds_B = np.array(([0] * 3000 + [1] * 1000) * 2), np.repeat([0, 1], 4000)
    measured, votes = fit_calibration(
        WeighedVotes.equal(probabilities_VMBC), np.array([1.0], np.float32), labels_B, folds_B
    )
    assert measured.temperature == pytest.approx(4 / np.log(3), abs=1e-2)
    assert measured.ece_before == pytest.approx(sure - 0.75, abs=1e-5)
    assert measured.ece_after == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(votes.probabilities_BC, [[0.75, 0.25]] * 8000, atol=1e-3)


def assert_probes(loaded: Ensemble) -> None:
    """The probe has 8 videos, and their probabilities from the finished ensemble in all views."""
    probe = loaded.trust.probe
    assert probe is not None
    assert [len(sequences) for sequences in probe.sequences_S] == [8] * len(loaded.info.backbones)
    probabilities_VBC = loaded(probe.sequences_S, tta=True).view_probabilities_VBC
    np.testing.assert_allclose(probe.probabilities_VBC, probabilities_VBC, atol=1e-6)
    assert probabilities_VBC.shape == (4, 8, 2)


def calibrated(
    directory: Path,
    sets: list[FeatureSet],
    first_look: list[FeatureSet] | None = None,
    prior_temperature: float = 1.0,
    has_linear_member: bool = False,
    num_folds: int = 0,
) -> Ensemble:
    """An ensemble of one member with random weights per backbone, calibrated on these features and read back.

    With `num_folds` there is one member per fold, and the calibration is a cross calibration.
    """
    members = []
    for index, features in enumerate(sets * max(num_folds, 1)):
        torch.manual_seed(index)
        state = TemporalClassifier(features.spec.feature_dim, 2, MODEL).state_dict()
        digest = files.write_member(str(directory), index, state)
        members.append(MemberRecord(file=files.member_file(index), backbone=features.spec.backbone, digest=digest))
    uncalibrated = MembersInfo(
        classes=["A", "B"],
        backbones=[FittedBackbone.of(features.spec, "DEFAULT") for features in sets],
        model=MODEL,
        members=members,
        training={},
        versions={},
    )
    info = calibrate(
        str(directory),
        uncalibrated,
        sets,
        first_look,
        prior_temperature=prior_temperature,
        has_linear_member=has_linear_member,
        member_folds=plan_member_folds(sets[0], num_folds) if num_folds else None,
    )
    write_info(str(directory), info)
    loaded = files.load(str(directory), torch.device("cpu"))
    assert loaded.info == info
    return loaded


def test_an_ensemble_is_calibrated_and_read_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centred = [generator.normal(size=(3, 1280)) + 400 * np.eye(1280)[index % 2] for index in range(24)]
    features = half_and_half(SPEC, [rows_TD.astype(np.float16) for rows_TD in centred])
    loaded = calibrated(tmp_path, [features])
    info = loaded.info
    assert [view.name for view in info.views] == ["original", "reverse", "faster", "slower"]
    assert sum(view.weight for view in info.views) == pytest.approx(1)
    assert info.calibration.num_videos == 12
    # All 12 validation videos, and the 12 train videos by cross-fitting.
    assert (info.trust.ood.num_videos, info.trust.ood.level) == (24, 0.95)
    output = loaded([features.features[12:]])
    correct_B = output.probabilities_BC.argmax(axis=1) == [0, 1] * 6
    assert loaded.trust.full["plain"].correct_B.tolist() == correct_B.tolist()
    assert info.training["val_accuracy"] == correct_B.mean()
    # The class of a set has the probability that the member gives to the true class, if the temperature is the same.
    truth = loaded.trust.truth["plain"]
    assert (truth.label_B.tolist(), sorted(set(truth.source_B.tolist()))) == ([0, 1] * 6, list(range(12)))
    np.testing.assert_allclose(
        truth.truth_B, np.take_along_axis(output.probabilities_BC, truth.label_B[:, None], axis=1)[:, 0], atol=0.1
    )
    sets = loaded.trust.set_thresholds("plain", 2, 0.8)
    assert sets is not None
    assert (sets.num_sources_C, min(sets.lowest_C) > 0) == ((6, 6), True)
    assert output.ood_score_B.max() <= 1 < loaded([[-features.features[12]]]).ood_score_B[0]
    # 12 validation videos of 3 frames: 3 segments of 1 frame, 1 segment of 2 frames.
    assert [(one.num_frames, one.num_segments) for one in info.segments] == [(1, 36), (2, 12)]
    assert_probes(loaded)
    # Frames show their class, whatever the member predicts for them.
    agreement_B = loaded.trust.discriminants[0].agreement(features.features[12:], [0, 1] * 6)
    assert agreement_B.tolist() == pytest.approx([1.0] * 12)


def test_a_linear_member_that_is_right_gets_weight_in_every_look_and_a_wrong_one_gets_none(tmp_path: Path) -> None:
    # Class B varies four times as much as class A, which the random member does not see.
    generator = np.random.default_rng(0)
    features = half_and_half(
        replace(SPEC, sampling=asdict(SamplingPlan(num_frames=48))),
        [generator.normal(scale=(1, 4)[index % 2], size=(48, 1280)).astype(np.float16) for index in range(80)],
    )
    loaded = calibrated(tmp_path / "spread", [features], has_linear_member=True)
    linear = loaded.info.linear
    assert linear is not None
    assert linear.best["val_accuracy"] == loaded.info.training["val_accuracy"] == 1.0
    assert linear.members_val_accuracy < 1.0
    assert [look for look, one in linear.looks.items() if one.weight > 0.5] == ["full", "subset"]
    assert linear.looks["full"].gain > 0.3
    # Segments of 1 to 32 frames; a single frame has no spread.
    assert linear.segments[0] < 0.5 < linear.segments[5]
    assert_probes(loaded)
    output = loaded([features.features[40:]])
    weight = linear.looks["full"].weight
    assert output.member_weights_M.tolist() == [1 - weight, weight]
    assert output.member_probabilities_MBC.shape == (2, 40, 2)
    assert output.member_probabilities_MBC[1].argmax(axis=1).tolist() == [0, 1] * 20
    shares_PC = loaded.segment_probabilities([[rows_TD[:24] for rows_TD in features.features[40:]]])
    assert shares_PC.argmax(axis=1).tolist() == [0, 1] * 20

    noise = half_and_half(SPEC, [generator.normal(size=(3, 1280)).astype(np.float16) for _ in range(80)])
    found = calibrated(tmp_path / "noise", [noise], has_linear_member=True).info
    assert found.linear is not None
    assert found.linear.looks["full"].weight == 0.0
    assert found.ensemble_id != replace(found, linear=None).ensemble_id


def test_a_cross_calibration_fits_everything_out_of_fold(tmp_path: Path) -> None:
    # Class B varies four times as much as class A, except in the last video of each class, which looks like the other.
    generator = np.random.default_rng(0)
    scales = [1, 4] * 39 + [4, 1]
    features = half_and_half(
        replace(SPEC, sampling=asdict(SamplingPlan(num_frames=48))),
        [generator.normal(scale=scale, size=(48, 1280)).astype(np.float16) for scale in scales],
    )
    loaded = calibrated(tmp_path, [features], has_linear_member=True, num_folds=4)
    info = loaded.info
    assert (info.calibration.num_videos, info.trust.ood.num_videos, len(info.members)) == (80, 80, 4)
    assert info.linear is not None
    assert info.linear.best["val_accuracy"] == 78 / 80
    assert info.linear.looks["full"].weight > 0.5
    assert loaded.trust.full["plain"].correct_B.tolist() == [True] * 78 + [False] * 2
    # Drift compares the confidences of the members that left a video out, at each look.
    for scores in (*loaded.trust.full.values(), *loaded.trust.stages.values()):
        assert scores.confidence_B is not None
        assert scores.confidence_B.shape == (80,)
        assert 0.5 <= scores.confidence_B.min() < scores.confidence_B.max() < 1
    # The OOD score of each video is that of a space without its fold, in the order of the videos.
    in_folds = plan_member_folds(features, 4).fold_N
    inside = np.flatnonzero(in_folds != 1)
    outside = np.flatnonzero(in_folds == 1)
    labels_B = np.array([0, 1] * 40)
    rows_BD, motion_BK = appearance(features.features), motion(features.features)
    space = FeatureSpace.fit(rows_BD[inside], motion_BK[inside], labels_B[inside], np.ones(2))
    space = replace(space, motion_weight=loaded.trust.spaces["full"][0].motion_weight)
    expected_B = info.trust.ood.score([space.distances([features.features[row] for row in outside])])
    np.testing.assert_allclose(loaded.trust.full["plain"].ood_B[outside], expected_B, rtol=1e-5)
    assert_probes(loaded)


def test_a_video_gets_the_vote_of_the_linear_fit_without_its_fold() -> None:
    def always(label: int) -> LinearMember:
        return LinearMember(weights_KC=np.zeros((2, 2), np.float32), offset_C=np.eye(2, dtype=np.float32)[label] * 50)

    fits = LinearFits(member=always(0), without_fold={0: always(0), 1: always(1)})
    rows_TD = np.ones((3, 1), np.float16)
    votes_V1BC = fits.in_views([[rows_TD] * 3], ("original", "reverse"), np.array([1, 0, 1]))
    assert votes_V1BC.shape == (2, 1, 3, 2)
    assert votes_V1BC[:, 0].argmax(axis=2).tolist() == [[1, 0, 1], [1, 0, 1]]
    # No video of fold 1, as for segments that only videos of fold 0 are long enough for.
    assert fits.in_views([[rows_TD] * 2], ("original",), np.array([0, 0])).shape == (1, 1, 2, votes_V1BC.shape[3])
    whole_V1BC = LinearFits(member=always(0)).in_views([[rows_TD] * 3], ("original",), np.array([1, 0, 1]))
    assert whole_V1BC[0, 0].argmax(axis=1).tolist() == [0, 0, 0]


def test_every_temperature_has_the_prior_of_the_loss_of_training(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = half_and_half(
        replace(SPEC, sampling=asdict(SamplingPlan(num_frames=48))),
        [generator.normal(size=(48, 1280)).astype(np.float16) for _ in range(24)],
    )

    def temperatures(prior_temperature: float) -> dict[str, float]:
        info = calibrated(tmp_path / str(prior_temperature), [features], prior_temperature=prior_temperature).info
        return {
            "plain": info.calibration.temperature,
            "tta": info.calibration.tta.temperature,
            **{name: look.calibration.temperature for name, look in info.stages.items()},
            **{f"{one.num_frames} frames": one.temperature for one in info.segments},
        }

    # Members with random weights give all videos nearly the same probabilities, so the prior decides much.
    low, high = temperatures(0.01), temperatures(1.0)
    assert list(low) == ["plain", "tta", "subset", *(f"{2**power} frames" for power in range(6))]
    assert all(0.01 < low[name] < 0.9 * high[name] for name in low)


def test_each_look_has_a_space_of_its_own(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def look(spec: FeatureSpec, num_frames: int, jitter: float) -> FeatureSet:
        centred = [
            10 * np.eye(1280)[index % 2] + jitter * generator.uniform(size=(num_frames, 1280)) for index in range(40)
        ]
        return half_and_half(spec, [rows_TD.astype(np.float16) for rows_TD in centred])

    # Keyframes differ more from each other than the frames of the full look.
    full = look(replace(SPEC, sampling=asdict(SamplingPlan(num_frames=48))), 48, 0.02)
    keyframes = look(SPEC, 3, 0.2)
    loaded = calibrated(tmp_path, [full], [keyframes])
    assert list(loaded.trust.spaces) == ["full", "keyframes", "subset"]
    sequences_of_look = {
        "full": full.features,
        "keyframes": keyframes.features,
        "subset": [rows_TD[evenly_spread(48, 24)] for rows_TD in full.features],
    }
    for name, sequences in sequences_of_look.items():
        (space,) = loaded.trust.spaces[name]
        expected_CK = [motion(sequences[index:20:2]).mean(axis=0) for index in range(2)]
        np.testing.assert_allclose(space.motion_means_CK, expected_CK, rtol=1e-6)
        stored_B = loaded.trust.full["plain"].ood_B if name == "full" else loaded.trust.stages[name].ood_B
        np.testing.assert_allclose(loaded([sequences[20:]], stage=name).ood_score_B, stored_B, rtol=1e-3)


def test_members_of_two_backbones_are_calibrated_together(tmp_path: Path) -> None:
    sets = pair()
    loaded = calibrated(tmp_path, sets)
    info = loaded.info
    assert (len(info.trust.ood.distances), info.trust.ood.num_videos) == (2, 24)
    validation_S = [features.features[12:] for features in sets]
    output = loaded(validation_S)
    assert output.ood_score_B.max() <= 1
    assert_probes(loaded)
    # A video that is out of distribution for one backbone only gets a higher OOD score.
    shifted_S = [validation_S[0], [rows_TD + np.float16(30) for rows_TD in validation_S[1]]]
    assert (loaded(shifted_S).ood_score_B > output.ood_score_B).all()
    # Frames show their class in the features of one backbone, and not in those of the other.
    agreement_B = frame_agreement(loaded.trust.discriminants, validation_S, [0, 1] * 6)
    agreements = [
        discriminant.agreement(sequences, [0, 1] * 6)
        for discriminant, sequences in zip(loaded.trust.discriminants, validation_S, strict=True)
    ]
    assert agreements[1].tolist() == pytest.approx([1.0] * 12)
    assert agreements[0].mean() < 0.9
    assert agreement_B.tolist() == pytest.approx(((agreements[0] + agreements[1]) / 2).tolist())
