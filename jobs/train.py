"""Train an ensemble: several models that classify videos from the features of their frames.

python jobs/train.py --features features/ --output ensemble/ [--members 4] [--gpus-per-member 0.25] [--folds 5]
python jobs/train.py --features features/resnet50,features/efficientnet_v2_s --output ensemble/
python jobs/train.py --features features/ --output ensemble/ --import-reference DIR --reference-classes A,B,C,D
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import TrainConfig
from vidclf.runs.lease import Output


def main(config: TrainConfig) -> int:
    """Read the features, train (or import) the members, and print their scores. Returns the exit code 0."""
    # Imported here, because they take seconds; vidclf.training.train imports torch and Ray.
    from vidclf.features.feature_set import read_features
    from vidclf.features.spec import read_spec, read_weights_location

    # Raises ConfigError unless all are directories of features.
    specs = [read_spec(directory) for directory in (*config.features, *config.first_look)]
    from vidclf.runs.state import manifest_ids
    from vidclf.training import host_memory
    from vidclf.training.train import train

    num_videos = len(manifest_ids(config.features[0]))
    print(host_memory.check(config, specs[: len(config.features)], num_videos), flush=True)

    features = [read_features(directory) for directory in config.features]
    first_looks = [read_features(directory) for directory in config.first_look]
    weights = [read_weights_location(directory) for directory in config.features]
    summary = train(config, features, weights, first_looks)
    if summary is None:
        return cli.EXIT_OK
    cli.write_run_config(config, config.output)
    print(summary_text(config, summary))
    return cli.EXIT_OK


def summary_text(config: TrainConfig, summary: dict[str, Any]) -> str:
    """Text that the job prints at its end: one line for the ensemble, then one for each member (model)."""
    from vidclf.ensemble.cross_validation import RECORD, CrossValidation  # imported here: it imports scipy

    verb = "trained" if config.import_reference is None else "imported"
    calibrated = "calibrated anew" if summary["was_calibrated"] else "everything was done already"
    work = f"{summary['num_trained']} {verb}" if summary["num_trained"] else calibrated
    measured = summary["classes_with_val"]
    sizes = sorted({f"{member['num_parameters'] / 1e6:.1f}" for member in summary["members"]}, key=float)
    judged = f"{summary['num_val_videos']} validation videos"
    if summary.get("calibration") == "cross":
        judged = f"{summary['num_train_videos']} videos, each judged by the members that left it out"
    lines = [
        f"{config.output}: {len(summary['members'])} members of {' or '.join(sizes)} M parameters, {work}; "
        f"on {judged}: {_scores(summary, measured)}"
    ]
    has_several_backbones = len({member["backbone"] for member in summary["members"]}) > 1
    for index, member in enumerate(summary["members"]):
        best = member["best"]
        f1_by_class = dict(zip(summary["val_f1"], best["val_f1"], strict=True))
        backbone = f" ({member['backbone']})" if has_several_backbones else ""
        lines.append(
            f"  member {index}{backbone}: {_scores({**best, 'val_f1': f1_by_class}, measured)}; {_origin(member)}"
        )
    linear = summary["linear_member"]
    if linear is not None:
        weight = linear["looks"]["full"]["weight"]
        lines.append(
            f"  linear member: {_scores(linear['best'], measured)}; weight {weight:.2f} in the average, accuracy "
            f"without it {linear['members_val_accuracy']:.3f}"
        )
    record = CrossValidation.read(summary.get(RECORD))
    if record is not None:
        lines.append(f"  cross-validation: accuracy {record.text}")
    return "\n".join(lines)


def _origin(member: dict[str, Any]) -> str:
    """Text on the origin of a member (model): the checkpoint from which it was imported, or its best epoch and training
    time."""
    if "imported_from" in member:
        return f"from {member['imported_from']}"
    attempt = f", attempt {member['best']['attempt']}" if member["attempts"] > 1 else ""
    return f"epoch {member['best']['number']}{attempt}, {member['epochs']} run in {member['duration_s']:.0f} s"


def _scores(values: dict[str, Any], classes: list[str]) -> str:
    """Text with the accuracy, the mean F1 scores and the one of `classes` (those with validation videos) with the
    lowest F1, all on the validation split."""
    worst = min(classes, key=values["val_f1"].__getitem__)
    return (
        f"accuracy {values['val_accuracy']:.3f}, macro F1 {values['val_macro_f1']:.3f}, weighted F1 "
        f"{values['val_weighted_f1']:.3f}, worst class {worst} {values['val_f1'][worst]:.3f}"
    )


if __name__ == "__main__":
    cli.run(TrainConfig, main, writes=lambda config: [Output(location=config.output)])
