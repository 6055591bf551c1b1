"""Compare two classifications of the same videos, for example before a new ensemble replaces the old one.

python jobs/diff.py --before predictions_a/ --after predictions_b/ --output diff/ --max-flip-rate 0.02

With --max-flip-rate the exit code is 1 if more than this share of the videos changed their most probable class.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import DiffConfig
from vidclf.runs.lease import Output


def main(config: DiffConfig) -> int:
    """Compare, write the report and print a summary. Returns the exit code: 1 if too many videos changed, otherwise
    0."""
    from vidclf.reports import diff  # imported here: it imports scipy, which takes a second

    result = diff.diff(config)
    if result is None:
        return cli.EXIT_OK
    cli.write_run_config(config, config.output)
    print(diff.table(result, config.output))
    return cli.EXIT_OK if result.is_within_limit else cli.EXIT_DIFFERENCES


if __name__ == "__main__":
    cli.run(DiffConfig, main, writes=lambda config: [Output(location=config.output)])
