"""Training on a cluster with a simulated GPU: `python -m tests.support.made_up_gpu_training OUTPUT`.

The environment must have `VIDCLF_GPU_DEVICE=cpu`. The job trains an ensemble, then runs a search and makes an ensemble
from its trials.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import ray

from tests.support import training_job, tuning_job
from vidclf.training.train import train


def main(output: Path) -> None:
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    config = replace(
        training_job.config(str(output / "ensemble")), members=2, epochs=2, batch_size=24, gpus_per_member=0.5
    )
    train(config, [training_job.features()], ["DEFAULT"])
    space = {**tuning_job.SPACE, "epochs": 2, "batch_size": 24}
    tuning_job.run(output / "tune", space, tuning_job.SEARCH, num_samples=2, gpus_per_trial=0.5, ensemble_from_trials=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
