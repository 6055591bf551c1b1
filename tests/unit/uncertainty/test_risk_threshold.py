"""Risk thresholds that are certified over sources, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from vidclf.pages.render import risk_words
from vidclf.uncertainty import risk_threshold
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.risk_threshold import Acceptance, RiskThreshold, threshold_text


def scores(trust: list[float], correct: list[bool], sources: list[int], ood: float = 0.5) -> ValidationScores:
    """Scores of validation videos with the same OOD score."""
    return ValidationScores(
        trust_B=np.array(trust, np.float32),
        correct_B=np.array(correct, bool),
        ood_B=np.full(len(trust), ood, np.float32),
        source_B=np.array(sources, np.int64),
    )


def right(num_sources: int, videos_per_source: int = 1) -> ValidationScores:
    """Scores of videos that are all right."""
    num_videos = num_sources * videos_per_source
    return scores([0.9] * num_videos, [True] * num_videos, [i // videos_per_source for i in range(num_videos)])


@pytest.mark.parametrize(
    ("trust", "ood", "expected"),
    [(0.7, 1.0, True), (0.69, 1.0, False), (0.7, 1.001, False), (0.7, np.nan, False), (np.nan, 0.5, False)],
)
def test_a_video_is_accepted_from_the_threshold_on_unless_it_is_out_of_distribution(
    trust: float, ood: float, expected: bool
) -> None:
    assert risk_threshold.is_accepted(np.array([trust]), np.array([ood]), 0.7).tolist() == [expected]


def test_a_risk_needs_this_many_sources_without_an_error() -> None:
    assert [risk_threshold.sources_to_certify(wanted) for wanted in (0.05, 0.1, 0.2)] == [45, 22, 11]
    # The exact test of scipy rejects a share of 0.05 from 45 sources on.
    p_values = [binomtest(0, number, 0.05, alternative="less").pvalue for number in (44, 45)]
    assert p_values[0] > 0.1 >= p_values[1]


def test_videos_of_one_source_certify_nothing() -> None:
    found = right(1, 45).threshold(0.05)
    assert (found.basis, found.threshold, found.num_accepted) == ("none", risk_threshold.ABSTAIN_ON_ALL, 0)
    found = right(44, 10).threshold(0.05)
    assert (found.basis, found.num_accepted, found.num_sources) == ("estimated", 440, 44)
    found = right(45, 10).threshold(0.05)
    assert (found.basis, found.threshold, found.num_accepted, found.num_sources) == ("certified", 0.0, 450, 45)


def test_a_source_with_one_wrong_video_counts_as_wrong() -> None:
    # 77 sources allow one wrong source: P(at most 1 of 77 | 0.05) = 0.097. Two wrong videos of one source count once.
    assert binomtest(1, 77, 0.05, alternative="less").pvalue == pytest.approx(0.0973, abs=1e-4)
    sources = [i // 10 for i in range(770)]
    found = scores([0.9] * 770, [False, False, *[True] * 768], sources).threshold(0.05)
    assert (found.basis, found.num_errors, found.num_wrong_sources, found.num_sources) == ("certified", 2, 1, 77)
    # The same two videos, but of different sources.
    found = scores([0.9] * 770, [False, *[True] * 768, False], sources).threshold(0.05)
    assert (found.basis, found.num_wrong_sources) == ("estimated", 2)


@pytest.mark.parametrize(
    ("num_wrong", "number", "p_value"),
    [
        (0, 44, 0.104674),
        (0, 45, 0.099440),
        (1, 77, 0.097327),
        (2, 105, 0.099187),
        (5, 185, 0.095510),
        (10, 300, 0.112301),
    ],
)
def test_a_certificate_agrees_with_mapie(num_wrong: int, number: int, p_value: float) -> None:
    """The p-values for a risk of 0.05 are those of `compute_hoeffding_bentkus_p_value` in MAPIE 1.6.0."""
    everything_B, right_B = np.ones(number, bool), np.arange(number) >= num_wrong
    acceptance = Acceptance.of(0.5, everything_B, right_B, np.arange(number))
    found = [acceptance.certifies(0.05, error_rate) for error_rate in (p_value - 1e-6, p_value + 1e-6)]
    assert found == [False, True]


def test_few_large_sources_do_not_certify_for_many_small_ones() -> None:
    # 8 sources of 60 videos and 92 of 3: 756² / (8 · 60² + 92 · 3²) = 19.3 effective sources, 45 are needed.
    sizes = [60] * 8 + [3] * 92
    sources = [source for source, size in enumerate(sizes) for _ in range(size)]
    found = scores([0.9] * len(sources), [True] * len(sources), sources).threshold(0.05)
    assert (found.basis, found.num_sources, found.num_wrong_sources) == ("estimated", 100, 0)
    # 50 large ones are enough, but not if one of them is wrong as a whole: 60 of 3450 videos, in 1 of 200 sources.
    sizes = [60] * 50 + [3] * 150
    sources = [source for source, size in enumerate(sizes) for _ in range(size)]
    accepted_B, right_B = np.ones(len(sources), bool), np.ones(len(sources), bool)
    assert Acceptance.of(0.5, accepted_B, right_B, np.array(sources)).certifies(0.05, 0.1)
    right_B[:60] = False
    assert not Acceptance.of(0.5, accepted_B, right_B, np.array(sources)).certifies(0.05, 0.1)


def test_the_threshold_lies_above_the_errors() -> None:
    # 60 right videos above 0.505, 10 wrong ones around 0.3.
    trust = [*np.linspace(0.505, 0.995, 60).tolist(), *[0.305] * 10]
    found = scores(trust, [True] * 60 + [False] * 10, list(range(70))).threshold(0.05)
    assert (found.basis, found.threshold, found.num_accepted, found.num_errors) == ("certified", 0.31, 60, 0)


def test_the_search_stops_at_the_first_failure() -> None:
    # 80 right videos, 40 wrong ones below them, and then so many right ones that all together would be certified again.
    data = scores([0.9] * 80 + [0.8] * 40 + [0.5] * 2000, [True] * 80 + [False] * 40 + [True] * 2000, list(range(2120)))
    acceptance = Acceptance.of(0.5, data.accepts(0.5), data.correct_B, data.source_B)
    assert acceptance.certifies(0.05, 0.1)
    found = data.threshold(0.05)
    assert (found.basis, found.num_accepted) == ("certified", 80)


def test_where_nothing_vouches_nothing_is_accepted() -> None:
    # Every video is wrong; there are no videos; every video is out of distribution.
    wrong = scores([0.9] * 45, [False] * 45, list(range(45)))
    for data in (wrong, scores([], [], []), scores([0.9] * 45, [True] * 45, list(range(45)), ood=1.5)):
        found = data.threshold(0.05)
        assert (found.basis, found.abstains_on_all, found.num_accepted) == ("none", True, 0)
        assert not data.accepts(found.threshold).any()


def test_uncertified_videos_are_accepted_on_request_from_the_highest_threshold_of_the_least_estimate() -> None:
    data = scores([0.9, 0.8, 0.7, 0.205], [True, True, True, False], [0, 1, 2, 3])
    found = data.threshold(0.05, accept_uncertified=True)
    # Three of three are right between 0.70 and 0.21: estimate (0 + 1) / (3 + 2).
    assert (found.basis, found.threshold, found.num_accepted) == ("none", pytest.approx(0.7), 3)
    assert found.estimate == pytest.approx(0.2)
    # If all are wrong, the fewest possible are accepted: none.
    wrong = scores([0.9] * 45, [False] * 45, list(range(45))).threshold(0.05, accept_uncertified=True)
    assert (wrong.threshold, wrong.num_accepted) == (0.99, 0)


def test_the_estimate_is_by_the_effective_number_of_sources() -> None:
    # One source of 20 videos and five of 4: 40² / (20² + 5 · 4²) = 3.33 effective sources. A quarter of the videos is
    # wrong.
    sources = [0] * 20 + [1 + i // 4 for i in range(20)]
    acceptance = Acceptance.of(0.5, np.ones(40, bool), np.arange(40) >= 10, np.array(sources))
    assert acceptance.num_effective_sources == pytest.approx(10 / 3)
    assert acceptance.estimate == pytest.approx((10 / 3 / 4 + 1) / (10 / 3 + 2))


def test_several_paths_share_the_probability_of_a_false_certificate() -> None:
    path = [Acceptance.of(0.5, np.ones(45, bool), np.ones(45, bool), np.arange(45))]
    bases = [risk_threshold.choose([path] * number, 0.05, 45, accept_uncertified=False).basis for number in (1, 2)]
    # 0.95 ** 45 is 0.0995: at most 0.1, and above 0.05.
    assert bases == ["certified", "estimated"]


def words(found: RiskThreshold) -> tuple[str, str]:
    return threshold_text(found, 0.05), risk_words(risk_threshold.risk_statement(found, 0.05))


def test_a_caveat_follows_every_stated_risk() -> None:
    found, none = right(45, 10).threshold(0.05), right(2).threshold(0.05)
    assert threshold_text(found, 0.05, "only on Sundays") == f"{threshold_text(found, 0.05)}; only on Sundays"
    statement = risk_threshold.risk_statement(found, 0.05, "only on Sundays")
    assert statement["caveat"] == "only on Sundays"
    assert risk_words(statement) == f"{words(found)[1]}; only on Sundays"
    # Where nothing is accepted, nothing is promised.
    assert threshold_text(none, 0.05, "only on Sundays") == threshold_text(none, 0.05)
    assert "Sundays" not in risk_words(risk_threshold.risk_statement(none, 0.05, "only on Sundays"))


def test_the_basis_is_stated() -> None:
    assert words(right(45, 10).threshold(0.05)) == (
        "risk basis certified: accepting trust scores from 0.00 (450 of 450 held-out videos, 0 of them wrong; 45 "
        "sources, 0 of them with a wrong one): an error of at most 0.05 on sources like these, with confidence 0.9",
        "certified: at most 5 % of accepted videos wrong on sources like those of validation, confidence 0.9; 0 of 450 "
        "accepted held-out videos wrong, in 0 of their 45 sources",
    )
    log, stated = words(right(44).threshold(0.05))
    assert "an estimated error of 0.022, which promises nothing for --abstain-risk 0.05" in log
    assert log.endswith(
        "certifying it takes at least 45 accepted held-out sources without a wrong video, more with one"
    )
    assert stated.startswith("estimated: 2.2 % of accepted videos wrong, target 5 %, not certified")
    assert words(right(2).threshold(0.05)) == (
        "risk basis none: abstaining on every video, since the 2 held-out videos support no trust score for "
        "--abstain-risk 0.05; certifying it takes at least 45 accepted held-out sources without a wrong video, more "
        "with one; --accept-uncertified accepts videos all the same",
        "none: validation does not support 5 %, so every video is abstained on",
    )
    log, stated = words(right(2).threshold(0.05, accept_uncertified=True))
    assert "accepted by --accept-uncertified; validation does not support --abstain-risk 0.05" in log
    assert stated.startswith("none: validation does not support 5 %, but videos are accepted anyway; 0 of 2")
