"""Measure the processing of some videos of an archive, and estimate workers, time and cost for all of them.

python jobs/plan.py --input DIR|URI|LIST [--cpus 64 --gpus 4] [--write job.yaml]
python jobs/plan.py --input DIR|URI|LIST --deadline 24 [--prices prices.yaml] [--write job.yaml]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.archive.manifest import list_unlabelled
from vidclf.config import PlanConfig


def main(config: PlanConfig) -> int:
    """List the videos, measure, and print the estimate. Returns the exit code 0."""
    manifest = list_unlabelled(config.input)
    from vidclf.planning.plan import plan  # imported here: it imports torch, which takes seconds

    print(plan(config, manifest))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(PlanConfig, main)
