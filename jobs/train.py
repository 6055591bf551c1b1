"""Train a temporal ensemble on extracted features.

python jobs/train.py --features features/ --output ensemble/ [--members 4] [--gpus-per-member 0.25]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import TrainConfig
from vidclf.features.store import read_features, read_weights_location
from vidclf.learning.train import train


def main(config: TrainConfig) -> int:
    features = read_features(config.features)
    summary = train(config, features, read_weights_location(config.features))
    if summary is None:
        return cli.EXIT_OK
    cli.write_run_config(config, config.output)
    done = f"{summary['num_trained']} trained" if summary["num_trained"] else "everything was done already"
    print(
        f"{config.output}: {len(summary['members'])} members of {summary['num_parameters'] / 1e6:.1f} M parameters, "
        f"{done}; "
        f"accuracy on {summary['num_val_videos']} validation videos {summary['val_accuracy']:.3f}"
    )
    for index, member in enumerate(summary["members"]):
        best = member["best"]
        print(
            f"  member {index}: accuracy {best['val_accuracy']:.3f}, macro F1 {best['val_macro_f1']:.3f} "
            f"on validation, epoch {best['number']} of {member['epochs']}"
        )
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(TrainConfig, main)
