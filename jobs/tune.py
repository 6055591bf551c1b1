"""Search for the model sizes and training settings with the best macro F1 on the validation split.

Macro F1 is the F1 score averaged over the classes.

python jobs/tune.py --features features/ --space tune_configs/default.yaml --output tune/ --num-samples 32
python jobs/train.py --config tune/best.yaml --output ensemble/

The exit code is 1 if none of the trials (trainings with different settings) ends with a score.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import TuneConfig
from vidclf.runs.lease import Output


def main(config: TuneConfig) -> int:
    """Run the hyperparameter search, write its page and print its best trials. Returns the exit code."""
    # Imported here, because they take seconds; vidclf.tuning.tune imports torch and Ray.
    from vidclf.features.feature_set import read_features
    from vidclf.features.spec import read_spec, read_weights_location

    for directory in config.features:
        read_spec(directory)  # raises ConfigError unless it is a directory of features
    from vidclf.reports import tuning_page
    from vidclf.tuning.tune import tune

    features = {location: read_features(location) for location in config.features}
    weights = {location: read_weights_location(location) for location in config.features}
    search = tune(config, features, weights)
    if search is None:
        return cli.EXIT_OK
    tuning_page.publish(search)
    cli.write_run_config(config, config.output)
    print(tuning_page.table(search))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(TuneConfig, main, writes=lambda config: [Output(location=config.output)])
