"""Tests of drift: literal values, scipy as outside judge, false alarms and power in simulation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from vidclf.uncertainty import drift
from vidclf.uncertainty.drift import BEYOND, OOD, TRUST, Scores, compare


def scores(trust_B: np.ndarray, ood_B: np.ndarray, sources: list[int] | None = None) -> Scores:
    return Scores.of(trust_B, ood_B, sources if sources is not None else list(range(len(trust_B))))


def test_effective_numbers() -> None:
    assert drift.effective_number(["a", "b", "c"]) == pytest.approx(3)
    assert drift.effective_number(["a", "a", "b", "b"]) == pytest.approx(2)
    assert drift.effective_number(["a"] * 3 + ["b"]) == pytest.approx(1.6)


def test_the_distance_counts_only_harm() -> None:
    low, high = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.4, 0.5, 0.6])
    assert drift.excess(low, high) == 0.5  # above 0.2 are half of the first and all of the second
    assert drift.excess(high, low) == 0


def test_smirnov_against_scipy() -> None:
    generator = np.random.default_rng(0)
    reference_B, values_B = generator.normal(size=80), generator.normal(0.4, size=120)
    # scipy's alternative "greater": the distribution function of the first is above that of the second.
    judge = stats.ks_2samp(reference_B, values_B, alternative="greater", method="exact")
    distance = drift.excess(reference_B, values_B)
    assert distance == pytest.approx(judge.statistic)
    assert drift.smirnov_p_value(distance, 80, 120) == pytest.approx(judge.pvalue, rel=0.35)


def test_clopper_pearson_against_scipy() -> None:
    judge = stats.binomtest(7, 50).proportion_ci(method="exact")
    assert drift.clopper_pearson(0.14, 50) == pytest.approx((judge.low, judge.high))
    assert drift.clopper_pearson(0.0, 20) == pytest.approx((0.0, 0.1684), abs=1e-4)


def test_the_share_beyond_a_line_of_few_videos_varies_more_than_a_binomial() -> None:
    # With 19 videos and level 0.95 the line is their highest score: a further video is beyond it in 1 of 20 cases, two
    # further videos both in 2 / (20 · 21) of the cases.
    assert drift.beyond_p_value(1.0, 1, 0.95, 19) == pytest.approx(0.05)
    assert drift.beyond_p_value(1.0, 2, 0.95, 19) == pytest.approx(2 / 420)
    assert drift.beyond_p_value(0.0, 30, 0.95, 19) == 1
    assert drift.beyond_p_value(0.2, 50, 0.95, 19) > 10 * stats.binom.sf(9, 50, 0.05)


def draw(generator: np.random.Generator, number: int, shift: float = 0.0) -> Scores:
    """Videos whose OOD score is half a chi distribution, and whose trust falls with it."""
    ood_B = (1.45 + generator.normal(shift, 0.35, number)) / 2
    trust_B = np.clip(1.3 - ood_B + generator.normal(0, 0.2, number), 0, 1)
    return scores(trust_B, ood_B)


def of_line(calibration: Scores, archive: Scores) -> tuple[Scores, Scores]:
    """Both with OOD scores divided by the conformal line of the calibration videos."""
    number = len(calibration.ood_B)
    line = np.sort(calibration.ood_B)[min(math.ceil((number + 1) * 0.95), number) - 1]
    first, second = (
        Scores(trust_B=s.trust_B, ood_B=s.ood_B / line, num_sources=s.num_sources) for s in (calibration, archive)
    )
    return first, second


@pytest.mark.parametrize(("num_calibration", "num_archive"), [(37, 40), (37, 2000), (300, 300)])
def test_false_alarms_on_exchangeable_draws(num_calibration: int, num_archive: int) -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        calibration, archive = of_line(draw(generator, num_calibration), draw(generator, num_archive))
        alarms += bool(compare(calibration, archive, 0.95, num_calibration).found)
    assert alarms <= 23  # of 300; at a true rate of 0.05, more than 23 have a probability of 0.02


def test_drift_of_another_class_is_found() -> None:
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(50):
        calibration, archive = of_line(draw(generator, 100), draw(generator, 60, shift=0.6))
        found += bool(compare(calibration, archive, 0.95, 100).found)
    assert found == 50


def test_an_easier_archive_is_no_drift() -> None:
    generator = np.random.default_rng(2)
    calibration, archive = of_line(draw(generator, 100), draw(generator, 500, shift=-0.6))
    assert compare(calibration, archive, 0.95, 100).found == []


def test_few_large_sources_are_weak_evidence() -> None:
    trust_B, ood_B = np.full(60, 0.4), np.r_[np.full(15, 1.5), np.full(45, 0.5)]
    calibration = scores(np.linspace(0.3, 1, 100), np.linspace(0.2, 1.05, 100))
    many = compare(calibration, scores(trust_B, ood_B), 0.95, 100)
    few = compare(calibration, scores(trust_B, ood_B, [index // 10 for index in range(60)]), 0.95, 100)
    assert BEYOND in many.found
    assert BEYOND not in few.found
    assert few.num_sources == pytest.approx(6)


def test_the_sentences() -> None:
    calibration = scores(np.linspace(0.3, 1, 100), np.linspace(0.2, 1.05, 100))
    alike = compare(calibration, calibration, 0.95, 100)
    counts = "6.0 % of 100 videos are beyond the OOD line (95 % interval 2.2 % to 12.6 % for "
    counts += "100 effective sources, expected 5.0 %)"
    assert [alike.sentence(basis) for basis in ("certified", "estimated", "none")] == [
        f"drift: none found, {counts}; the certified risk may be relied on for this archive",
        f"drift: none found, {counts}; nothing speaks against the estimated risk, which promises nothing",
        f"drift: none found, {counts}; there is no risk to rely on, because validation supports none: label more "
        "videos",
    ]
    shifted = scores(np.linspace(0.1, 0.6, 50), np.linspace(0.9, 1.6, 50))
    result = compare(calibration, shifted, 0.95, 100)
    assert result.found == [BEYOND, OOD, TRUST]
    assert result.sentence("certified") == (
        "drift: found, 84.0 % of 50 videos are beyond the OOD line (95 % interval 70.9 % to 92.8 % for 50 "
        "effective sources, expected 5.0 %), OOD scores are higher and trust scores are lower than in calibration; do "
        "not rely on the stated risk for this archive: label videos of it (--label-next N lists the most informative "
        "ones), add them to the training archive and train again"
    )
    few = compare(calibration, scores(np.full(4, 0.5), np.full(4, 2.0)), 0.95, 100)
    assert few.p_values == {}
    assert few.sentence("none") == (
        "drift: not tested, too few sources here or in calibration; 100.0 % of 4 videos are beyond the OOD line (95 % "
        "interval 39.8 % to 100.0 % for 4 effective sources, expected 5.0 %); the stated risk cannot be checked for "
        "this archive: label some of its videos and evaluate them"
    )


def test_an_ood_score_that_is_no_number_is_beyond_the_line() -> None:
    calibration = scores(np.linspace(0.3, 1, 100), np.linspace(0.2, 1.05, 100))
    result = compare(calibration, scores(np.full(20, 0.9), np.full(20, np.nan)), 0.95, 100)
    assert result.beyond == 1
    assert BEYOND in result.found


def test_scores_of_trust_by_different_measures_are_not_compared() -> None:
    ood_B = np.linspace(0.2, 1.05, 100)
    by_fold = Scores.of(np.full(100, 0.9), ood_B, range(100), drift.CONFIDENCE)
    result = compare(by_fold, scores(np.full(100, 0.1), ood_B), 0.95, 100)
    assert (result.p_values.keys(), result.found) == ({BEYOND, OOD}, [])
    lower = compare(by_fold, Scores.of(np.full(100, 0.1), ood_B, range(100), drift.CONFIDENCE), 0.95, 100)
    assert lower.found == [drift.CONFIDENCE]
    assert ", confidences are lower than in calibration; " in lower.sentence("none")


def test_what_classification_applies_loads_no_optimizer_and_no_distributions() -> None:
    modules = ", ".join(f"vidclf.uncertainty.{name}" for name in ("drift", "hierarchy", "temperature", "trust_score"))
    code = f"import sys, {modules}; print(sorted({{'scipy.optimize', 'scipy.stats'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
