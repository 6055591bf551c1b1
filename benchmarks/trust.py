"""Accuracy, calibration, out-of-distribution detection and risk of an ensemble, over several splits.

    python benchmarks/trust.py --archive DIR --features DIR [--seeds 0,1,2,3,4] [--members 4] [--hidden-dim 128] ...

For each seed the archive is split by source, an ensemble trained on train, fitted on validation and
measured on test; then trained again without one class, whose videos are then of no class. Clips of no
class are made besides: noise, coarse noise, solid colours, bars, ramps and chequers, encoded as H.264
and sampled as the videos were. `--archive` is named for what the features were made of; the reference
system's fixed formula, which abstains below 0.45, is computed from the same predictions.

The formula: 0.25 · confidence + 0.20 · gap to the second class + 0.20 · (1 - entropy / log C) + 0.15 ·
focus of the attention + 0.20 · frame agreement; the focus is 1 - entropy of the pooling weights / log T.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.machine import describe
from vidclf.archive.decode import decode_video
from vidclf.config import FitConfig, ModelConfig
from vidclf.features import backbone
from vidclf.features.store import FeatureSet, read_features, read_weights_location
from vidclf.learning import ensemble, splits
from vidclf.learning.calibrate import calibrate
from vidclf.learning.dataset import training_data
from vidclf.learning.ensemble import Ensemble, EnsembleInfo, EnsembleOutput
from vidclf.learning.fit import fit_member
from vidclf.learning.metrics import expected_calibration_error
from vidclf.learning.trust import risk_threshold

FRACTIONS = (0.7, 0.2, 0.1)
REFERENCE_THRESHOLD = 0.45
RISK = 0.05
SIDE = 256
NUM_FRAMES = 40
CLIPS_A_KIND = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--hidden-dim", type=int, default=128)
    parser.add_argument("--num-lstm-layers", type=int, default=2)
    parser.add_argument("--num-attention-heads", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--no-held-out", action="store_true", help="leave out the ensembles that lack a class")
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    names = ("hidden_dim", "num_lstm_layers", "num_attention_heads", "epochs", "lr")
    recipe = FitConfig(classifier_dims=(64,), patience=15, **{name: getattr(arguments, name) for name in names})
    print(describe("torch", "scikit-learn"), f"\n{len(features.labels)} videos of {arguments.archive.name}; {recipe}\n")
    made = clips_of_no_class(features, read_weights_location(arguments.features))
    rows: list[dict[str, float]] = []
    pooled: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
    classes = sorted({str(label) for label in features.labels})
    for number, seed in enumerate(map(int, arguments.seeds.split(","))):
        fresh = split(features, seed)
        classifier = train(fresh, recipe, arguments.members)
        row = {"seed": float(seed)}
        for tta in (False, True):
            found, pool = measure(classifier, fresh, made, tta)
            row.update({f"{name}{' tta' if tta else ''}": value for name, value in found.items()})
            if not tta:
                pooled.append(pool)
        if not arguments.no_held_out:
            row.update(held_out(fresh, classes[number % len(classes)], recipe, arguments.members))
        rows.append(row)
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    print("\n| | mean | " + " | ".join(f"seed {row['seed']:.0f}" for row in rows) + " |")
    print("|---|---|" + "---|" * len(rows))
    for name in [name for name in rows[0] if name != "seed"]:
        values = [row[name] for row in rows]
        print(f"| {name} | {np.mean(values):.3f} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    ours_B, theirs_B, correct_B = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    print(f"\n| coverage, {len(correct_B)} test videos | error, ours | error, reference's formula |\n|---|---|---|")
    for coverage in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        count = max(1, round(coverage * len(correct_B)))
        errors = [1 - correct_B[np.argsort(-score_B, kind="stable")[:count]].mean() for score_B in (ours_B, theirs_B)]
        print(f"| {coverage:.2f} | {errors[0]:.3f} | {errors[1]:.3f} |")


def split(features: FeatureSet, seed: int) -> FeatureSet:
    names = splits.assign([str(label) for label in features.labels], features.groups, FRACTIONS, seed)
    return replace(features, splits=list(names))


def of(features: FeatureSet, keep: npt.NDArray[np.bool_]) -> FeatureSet:
    chosen = np.flatnonzero(keep).tolist()
    lists = ("video_ids", "labels", "groups", "splits", "features")
    return replace(features, **{name: [getattr(features, name)[index] for index in chosen] for name in lists})


def train(features: FeatureSet, recipe: FitConfig, num_members: int) -> Ensemble:
    data, cpu = training_data(features), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        members = []
        for index in range(num_members):
            fitted = fit_member(data, recipe, index, cpu)
            digest = ensemble.write_member(folder, index, fitted.state)
            members.append({"file": ensemble.member_file(index), "digest": digest})
        model = ModelConfig(**{name: getattr(recipe, name) for name in ModelConfig.__dataclass_fields__})
        info = EnsembleInfo(
            classes=data.classes,
            feature_spec=features.spec,
            weights="",
            model=model,
            members=members,
            training={},
        )
        ensemble.write_info(folder, calibrate(folder, info, features))
        return ensemble.load(folder, cpu)


def measure(
    classifier: Ensemble, features: FeatureSet, made: list[npt.NDArray[np.float16]], tta: bool
) -> tuple[dict[str, float], tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    test = of(features, np.array(features.splits) == "test")
    labels_B = np.array([classifier.info.classes.index(str(label)) for label in test.labels])
    known, unknown = classifier([test.features], tta=tta), classifier([made], tta=tta)
    correct_B = known.probabilities_BC.argmax(axis=1) == labels_B
    calibration: dict[str, Any] = classifier.info.calibration
    calibration = calibration["tta"] if tta else calibration
    validation = classifier.trust
    mode = ensemble.mode(tta)
    found = risk_threshold(validation.validation_trust_B[mode], validation.validation_correct_B[mode], RISK)
    accepted_B = (known.trust_score_B >= found.threshold) & (known.ood_score_B <= 1)
    theirs_B, theirs_unknown_B = reference(classifier, known, test.features), reference(classifier, unknown, made)
    accepted_theirs_B = theirs_B >= REFERENCE_THRESHOLD
    result = {
        "test accuracy": correct_B.mean(),
        "test ECE": expected_calibration_error(known.probabilities_BC.max(axis=1), correct_B),
        "validation ECE before": calibration["ece_before"],
        "validation ECE after": calibration["ece_after"],
        "test accepted": accepted_B.mean(),
        "test error of accepted": 1 - correct_B[accepted_B].mean() if accepted_B.any() else 0.0,
        "made clips abstained on": 1 - ((unknown.trust_score_B >= found.threshold) & (unknown.ood_score_B <= 1)).mean(),
        "AUROC of OOD score, made clips": auroc(known.ood_score_B, unknown.ood_score_B),
        "AUROC of 1 - trust, made clips": auroc(-known.trust_score_B, -unknown.trust_score_B),
        "AUROC of reference's formula, made clips": auroc(-theirs_B, -theirs_unknown_B),
        "reference: test accepted": accepted_theirs_B.mean(),
        "reference: test error of accepted": 1 - correct_B[accepted_theirs_B].mean() if accepted_theirs_B.any() else 0,
        "reference: made clips abstained on": (theirs_unknown_B < REFERENCE_THRESHOLD).mean(),
    }
    return {name: float(value) for name, value in result.items()}, (known.trust_score_B, theirs_B, correct_B)


def held_out(features: FeatureSet, label: str, recipe: FitConfig, num_members: int) -> dict[str, float]:
    """AUROC of the videos of a class that training lacks, against test's of the others."""
    is_held = np.array(features.labels) == label
    classifier = train(of(features, ~is_held), recipe, num_members)
    test = of(features, ~is_held & (np.array(features.splits) == "test")).features
    strange = of(features, is_held).features
    known, unknown = classifier([test]), classifier([strange])
    theirs = [reference(classifier, output, seen) for output, seen in ((known, test), (unknown, strange))]
    return {
        "AUROC of OOD score, held-out class": auroc(known.ood_score_B, unknown.ood_score_B),
        "AUROC of 1 - trust, held-out class": auroc(-known.trust_score_B, -unknown.trust_score_B),
        "AUROC of reference's formula, held-out class": auroc(-theirs[0], -theirs[1]),
    }


def auroc(known_B: npt.NDArray[Any], unknown_B: npt.NDArray[Any]) -> float:
    return float(roc_auc_score([0] * len(known_B) + [1] * len(unknown_B), np.concatenate([known_B, unknown_B])))


def reference(
    classifier: Ensemble, output: EnsembleOutput, sequences: list[npt.NDArray[np.float16]]
) -> npt.NDArray[np.float64]:
    """The reference system's trust score, [B]."""
    sorted_BC = np.sort(output.probabilities_BC.astype(np.float64), axis=1)
    entropy_B = -(sorted_BC * np.log(np.maximum(sorted_BC, 1e-12))).sum(axis=1) / np.log(sorted_BC.shape[1])
    focus_B = np.array([focus(weights_T.astype(np.float64)) for weights_T in output.attention])
    agreement_B = classifier.trust.spaces[0].frame_agreement(sequences, output.probabilities_BC.argmax(axis=1))
    gap_B = sorted_BC[:, -1] - sorted_BC[:, -2]
    score_B: npt.NDArray[np.float64] = (
        0.25 * sorted_BC[:, -1] + 0.20 * gap_B + 0.20 * (1 - entropy_B) + 0.15 * focus_B + 0.20 * agreement_B
    )
    return score_B


def focus(weights_T: npt.NDArray[np.float64]) -> float:
    if len(weights_T) < 2:
        return 1.0
    return float(1 + (weights_T * np.log(np.maximum(weights_T, 1e-12))).sum() / np.log(len(weights_T)))


def clips_of_no_class(features: FeatureSet, weights: str) -> list[npt.NDArray[np.float16]]:
    """Features of made clips, through a file, the decoder and the backbone as those of any video."""
    state = backbone.load_weights(features.spec.backbone, weights)
    network = backbone.build(features.spec.backbone, weights, state, "cpu")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, frames_THWC in enumerate(made_clips()):
            path = Path(folder) / f"{number}.mp4"
            encode(path, frames_THWC)
            video = decode_video(str(path), features.spec.plan, network.preprocessing.transform)
            found.append(network(torch.from_numpy(video.frames_THWC)).numpy().astype(np.float16))
    return found


def made_clips() -> list[npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    clips: list[npt.NDArray[np.uint8]] = []
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(CLIPS_A_KIND):
        clips.append(generator.integers(0, 256, (NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8))
        cells = generator.integers(0, 256, (NUM_FRAMES, 16 * (number + 1), 16 * (number + 1), 3), dtype=np.uint8)
        clips.append(np.stack([np.asarray(cv2.resize(frame, (SIDE, SIDE)), np.uint8) for frame in cells]))
        colours = generator.integers(0, 256, (4 + number, 3), dtype=np.uint8)
        ramp = np.rot90((x * 255 // (SIDE - 1)).astype(np.uint8), number)
        squares = ((y // (8 * (number + 1)) + x // (8 * (number + 1))) % 2 * 255).astype(np.uint8)
        stills = (colours[np.zeros_like(x)], colours[x * len(colours) // SIDE], ramp, squares)
        for still in stills:
            image = still if still.ndim == 3 else np.repeat(still[:, :, None], 3, axis=2)
            clips.append(np.repeat(image[None], NUM_FRAMES, axis=0))
    return clips


def encode(path: Path, frames_THWC: npt.NDArray[np.uint8]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for image in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
