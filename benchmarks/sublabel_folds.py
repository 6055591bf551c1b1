"""Sublabels (finer classes below a class) on videos of unseen sources, by cross-validation over the sources.

    python benchmarks/sublabel_folds.py --features DIR [--folds 6] [--members 2] [--ensembles DIR]

Each fold is once the test split; the next two folds are the validation split, on which everything is calibrated, and
the members are trained on the others (`fold` of trust.py). The figures are those of a report over the test videos of
all folds together: accuracy and F1 by sublabel with 95 % intervals that count sources, the levels at which videos are
answered for several risks (allowed shares of wrong answers), and the error there. Thresholds are taken even where
validation does not certify the risk. A sublabel that the training split of a fold has too few sources of counts as an
error. `--ensembles DIR` stores the trained members; a later run only repeats the fits.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import describe
from benchmarks.sublabels import RECIPE
from benchmarks.trust import fold, of
from vidclf.classification.sublabel_columns import sublabel_sets_column
from vidclf.config import ModelConfig
from vidclf.ensemble import info as info_module
from vidclf.ensemble.files import load, member_file, write_member
from vidclf.ensemble.inference import Ensemble
from vidclf.ensemble.info import FittedBackbone, MembersInfo, write_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.reports import sublabel_figures, video_kinds
from vidclf.reports.labelled_predictions import ScoredVideos
from vidclf.schema import AnswerLevel
from vidclf.training.calibrate import calibrate
from vidclf.training.dataset import training_data
from vidclf.training.member_fit import fit_member
from vidclf.training.publish import prior_temperature
from vidclf.training.sublabels import taxonomy_of
from vidclf.uncertainty.hierarchy import UNKNOWN, SublabelAnswers
from vidclf.uncertainty.risk_threshold import is_accepted

RISKS = (0.05, 0.1, 0.2)
"""Allowed shares of wrong answers for which levels are printed."""

COVERAGE = 0.9
"""Asked probability that a set of sublabels holds the true one."""

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of videos with labels and sublabels")
    parser.add_argument("--folds", type=int, default=6, help="number of folds, at least 4")
    parser.add_argument("--members", type=int, default=2, help="members per ensemble")
    parser.add_argument("--ensembles", type=Path, help="directory in which trained members are stored and reused")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    features = read_features(arguments.features)
    classes = sorted({str(label) for label in features.labels})
    print(describe("torch"), f"\n{len(features.labels)} videos, {arguments.folds} folds, {arguments.members} members\n")
    by_risk: dict[float, list[ScoredVideos]] = {risk: [] for risk in RISKS}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.folds):
            started = time.monotonic()
            fresh = fold(features, number, arguments.folds)
            ensemble = trained(fresh, arguments.members, arguments.ensembles or Path(scratch))
            test = of(fresh, np.array(fresh.splits) == "test")
            for risk in RISKS:
                by_risk[risk].append(scored(ensemble, test, classes, risk))
            print(f"fold {number}: {len(test.labels)} test videos, {time.monotonic() - started:.0f} s", flush=True)
    pooled = {risk: joined(parts) for risk, parts in by_risk.items()}
    print_sublabels(pooled[RISKS[0]], classes)
    print_levels(pooled, classes)


def trained(features: FeatureSet, num_members: int, kept_in: Path) -> Ensemble:
    """Train small members with sublabels, calibrate them on the validation split, and load the ensemble."""
    taxonomy = taxonomy_of(features)
    data = training_data(features, taxonomy=taxonomy)
    directory = kept_in / hashlib.sha256(f"{features.splits} {taxonomy} {RECIPE}".encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(num_members):
        if not (directory / member_file(index)).exists():
            write_member(str(directory), index, fit_member(data, RECIPE, index, CPU).state)
    members = [
        MemberRecord(
            file=member_file(index),
            backbone=features.spec.backbone,
            digest=hashlib.sha256((directory / member_file(index)).read_bytes()).hexdigest(),
        )
        for index in range(num_members)
    ]
    info = MembersInfo(
        classes=data.classes,
        taxonomy=taxonomy,
        backbones=[FittedBackbone.of(features.spec, "")],
        model=ModelConfig(**{name: getattr(RECIPE, name) for name in ModelConfig.__dataclass_fields__}),
        members=members,
        training={},
        versions={},
    )
    prior = prior_temperature(RECIPE, members, len(data.classes))
    write_info(
        str(directory),
        calibrate(str(directory), info, [features], prior_temperature=prior, has_linear_member=True),
    )
    return load(str(directory), CPU)


def scored(ensemble: Ensemble, test: FeatureSet, classes: list[str], risk: float) -> ScoredVideos:
    """Predictions of the test videos, with the levels of their answers at a risk."""
    output, info, mode = ensemble([test.features]), ensemble.info, info_module.mode(False)
    threshold = ensemble.trust.threshold(mode, risk, accept_uncertified=True)
    fine = ensemble.trust.sublabel_threshold(mode, threshold, risk, True)
    assert fine is not None
    assert output.conditional_BL is not None
    answers = SublabelAnswers.of(info.hierarchy, output.probabilities_BC, output.conditional_BL, output.trust_score_B)
    accepted_B = is_accepted(output.trust_score_B, output.ood_score_B, threshold.threshold)
    names = info.hierarchy.names
    found = ensemble.trust.sublabel_set_thresholds(mode, info.hierarchy, COVERAGE)
    assert found is not None
    sets = sublabel_sets_column(output, info.hierarchy, found.lowest_N)
    num = len(test.labels)
    text = np.array([""] * num)
    return ScoredVideos(
        video_ids=np.array(test.video_ids),
        video_uris=text,
        splits=np.array(test.splits),
        groups=np.array(test.groups),
        sublabels=np.array([name or video_kinds.UNKNOWN for name in test.sublabels]),
        top_sublabels=np.array(["" if index == UNKNOWN else names[index][1] for index in answers.top_B.tolist()]),
        levels=np.array([str(level) for level in answers.levels(accepted_B, fine.threshold)]),
        sublabel_sets=np.array([frozenset(names) for names in sets.to_pylist()], object),
        codecs=text,
        resolutions=text,
        durations=text,
        stages=text,
        label_B=np.array([classes.index(str(label)) for label in test.labels]),
        top_B=output.probabilities_BC.argmax(axis=1),
        is_accepted_B=accepted_B,
        confidence_B=output.probabilities_BC.max(axis=1),
        trust_B=output.trust_score_B,
        sublabel_trust_B=answers.trust_B.astype(np.float32),
        ood_B=output.ood_score_B,
        probabilities_BC=output.probabilities_BC,
        in_set_BC=np.zeros((num, len(classes)), bool),
        member_top_BM=np.zeros((num, 0), np.int64),
        view_top_BV=np.zeros((num, 0), np.int64),
    )


def joined(parts: list[ScoredVideos]) -> ScoredVideos:
    """The videos of all folds together."""
    values: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    return replace(parts[0], **values)


def print_sublabels(videos: ScoredVideos, classes: list[str]) -> None:
    """Print accuracy and F1 of each sublabel, and the shares that could be answered in hindsight."""
    found = sublabel_figures.of_videos(videos, classes)
    assert found is not None
    right = int(videos.is_correct_B.sum())
    print(f"\nclasses: {right} of {len(videos)} videos right, {words(videos.is_correct_B, videos)}")
    print(
        f"sublabels, class included: {found.num_correct} of {found.num_videos} videos right, {found.accuracy:.3f} "
        f"{between(found.accuracy_interval_95)}; macro F1 {found.macro_f1:.3f}\n"
    )
    assert found.sets is not None
    print(f"asked coverage {COVERAGE:g}: {found.sets.words('sublabel', 'sublabels')}\n")
    print("| class | sublabel | videos | sources | accuracy | 95 % | F1 | 95 % |\n|---|---|---|---|---|---|---|---|")
    for row in found.per_sublabel:
        inside_B = (videos.sublabels == row.sublabel) & (videos.label_B == classes.index(row.label))
        accuracy = "–" if row.accuracy is None else f"{row.accuracy:.2f}"
        print(
            f"| {row.label} | {row.sublabel} | {row.num_videos} | {len(set(videos.groups[inside_B].tolist()))} | "
            f"{accuracy} | {between(row.accuracy_interval_95)} | {row.f1:.2f} | {between(row.f1_interval_95)} |"
        )
    print("\n| error at most, in hindsight | sublabels answered | classes answered |\n|---|---|---|")
    for share in found.by_risk:
        print(f"| {share.risk:g} | {share.sublabel:.3f} | {share.label:.3f} |")


def print_levels(pooled: dict[float, ScoredVideos], classes: list[str]) -> None:
    """Print the share of the videos answered at each level, and the errors among these, by risk."""
    print(
        "\n| risk | answered with sublabel | of these wrong | with class only | of these wrong | abstained | wrong of "
        "all answers | 95 % |\n|---|---|---|---|---|---|---|---|"
    )
    for risk, videos in pooled.items():
        found = sublabel_figures.of_videos(videos, classes)
        assert found is not None
        fine, coarse, abstained = found.levels
        is_fine_B = videos.levels == AnswerLevel.SUBLABEL
        wrong_B = ~videos.is_correct_B | (is_fine_B & (videos.top_sublabels != videos.sublabels))
        answered_B = videos.levels != AnswerLevel.ABSTAINED
        interval = SourceIntervals(videos.groups.tolist()).share(wrong_B, answered_B)
        print(
            f"| {risk:g} | {fine.share:.3f} | {ratio(fine)} | {coarse.share:.3f} | {ratio(coarse)} | "
            f"{abstained.share:.3f} | {wrong_B[answered_B].mean():.3f} | {between(interval)} |"
        )


def ratio(level: sublabel_figures.LevelFigures) -> str:
    """The share of wrong answers at a level, with the counts."""
    if not level.num_judged:
        return "–"
    return f"{level.num_wrong / level.num_judged:.3f} ({level.num_wrong} of {level.num_judged})"


def words(is_hit_B: npt.NDArray[np.bool_], videos: ScoredVideos) -> str:
    """A share with its interval over sources."""
    return f"{is_hit_B.mean():.3f} {between(SourceIntervals(videos.groups.tolist()).share(is_hit_B))}"


def between(interval: Interval | None) -> str:
    """An interval as text; a dash if there is none."""
    return "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


if __name__ == "__main__":
    main()
