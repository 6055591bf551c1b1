"""Sections of a model card about reliability: accuracy, calibration, and what the ensemble abstains on."""

from __future__ import annotations

from collections.abc import Mapping

from vidclf.ensemble import card_text
from vidclf.ensemble.card_text import NOT_RECORDED
from vidclf.ensemble.cross_validation import RECORD, CrossValidation
from vidclf.ensemble.info import EnsembleInfo, mode
from vidclf.metrics.intervals import TOO_FEW_SOURCES, Interval, SourceIntervals
from vidclf.uncertainty.early_exit import ValidationScores

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Allowed shares of wrong labels (`--abstain-risk`) for which a card states the threshold."""

_MODES = {mode(False): "without test-time augmentation", mode(True): "with test-time augmentation (`--tta`)"}


def accuracy(info: EnsembleInfo, scores: Mapping[str, ValidationScores]) -> str:
    """Table of accuracies with their 95 % intervals, counted by sources as `jobs/evaluate.py` does."""
    rows = []
    held_out = "out of fold" if info.is_cross_calibrated else "validation"
    for name, words in _MODES.items():
        correct_B = scores[name].correct_B
        if not len(correct_B):
            rows.append([f"{held_out}, {words}", *[NOT_RECORDED] * 4])
            continue
        sources = SourceIntervals([str(source) for source in scores[name].source_B])
        share, count = float(correct_B.mean()), f"{int(correct_B.sum())} of {len(correct_B)}"
        rows.append(
            [
                f"{held_out}, {words}",
                f"{share:.3f}",
                _interval(sources.share(correct_B)),
                count,
                str(sources.num_sources),
            ]
        )
    crossed = CrossValidation.read(info.training.get(RECORD))
    if crossed is None:
        rows.append([f"cross-validation (`--folds`): {NOT_RECORDED}", *["–"] * 4])
    else:
        count = f"{crossed.num_correct} of {crossed.num_videos}"
        interval = _interval(crossed.accuracy_interval_95)
        rows.append(
            [
                f"cross-validation, {crossed.num_folds} folds",
                f"{crossed.accuracy:.3f}",
                interval,
                count,
                str(crossed.num_sources),
            ]
        )
    table = card_text.table(["videos of", "accuracy", "95 % interval", "right", "sources"], rows)
    doubt = (
        "Out of fold: each training video is judged by the members that left out its source, not by their average."
        if info.is_cross_calibrated
        else "The validation videos have also chosen the best epoch of each member, so their accuracy is slightly too "
        "high."
    )
    return (
        f"{table}\n\nIntervals count sources, not videos. {doubt} Test videos: training does not look at them; "
        "`vidclf evaluate --features … --ensemble … --split test` measures them."
    )


def calibration(info: EnsembleInfo) -> str:
    """Temperatures and calibration errors on validation, of whole videos, early looks and segments."""
    num_videos = f"{info.calibration.num_videos} videos"
    rows = [
        (f"all frames, {words}", info.calibration.of_mode(name == mode(True)), num_videos)
        for name, words in _MODES.items()
    ]
    rows += [(f"early look `{name}`", look.calibration, num_videos) for name, look in info.stages.items()]
    cells = [
        [words, f"{fit.temperature:g}", f"{fit.ece_before:.4f}", f"{fit.ece_after:.4f}", count]
        for words, fit, count in rows
    ]
    cells += [
        [
            f"segments of {one.num_frames} frames",
            f"{one.temperature:g}",
            f"{one.ece_before:.4f}",
            f"{one.ece_after:.4f}",
            f"{one.num_segments} segments",
        ]
        for one in info.segments
    ]
    table = card_text.table(
        ["prediction from", "temperature", "ECE at temperature 1", "ECE calibrated", "validation"], cells
    )
    weights = ", ".join(f"{view.name} {view.weight:.3f}" for view in info.views)
    return (
        f"{table}\n\nECE is the expected calibration error. The calibrated one is that of videos of sources on which "
        f"the temperature was not fitted. Weights of the views with test-time augmentation: {weights}."
    )


def abstention(info: EnsembleInfo, scores: Mapping[str, ValidationScores]) -> str:
    """Thresholds of the trust score for several allowed errors, and the evidence for them."""
    rows = []
    for risk in RISKS:
        for name in _MODES:
            chosen = scores[name].threshold(risk)
            accepted = f"{chosen.num_accepted} of {chosen.num_videos}"
            threshold = "abstains on all" if chosen.abstains_on_all else f"{chosen.threshold:.2f}"
            wrong = f"{chosen.num_errors} in {chosen.num_wrong_sources} of {chosen.num_sources} sources"
            rows.append([f"{risk:g}", "yes" if name == mode(True) else "no", chosen.basis, threshold, accepted, wrong])
    head = ["`--abstain-risk`", "`--tta`", "basis", "least trust score", "accepted on validation", "wrong among them"]
    ood = info.trust.ood
    return (
        f"{card_text.table(head, rows)}\n\n"
        "certified: a statistical test with 90 % confidence, for sources like those of validation. estimated: the "
        "expected error is small enough, which promises nothing. none: the validation videos do not support the risk."
        "\n\n"
        "A video with an OOD score above 1 is out of distribution and gets no label at any risk. "
        f"The line was fitted on {ood.num_videos} videos: a further video of the known classes stays below it with "
        f"probability {ood.level:g}."
    )


def _interval(interval: Interval | None) -> str:
    """A 95 % interval as text."""
    return TOO_FEW_SOURCES if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
