"""Compare predictions with the true labels and write a report.

python jobs/evaluate.py --predictions predictions/ --manifest manifest.parquet --output report/
python jobs/evaluate.py --features FILE.h5|features/[,features/] --ensemble ensemble/ --split test --output report/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import EvaluateConfig
from vidclf.runs.lease import Output


def main(config: EvaluateConfig) -> int:
    """Evaluate, write the report and print a summary. Returns the exit code 0."""
    from vidclf.reports import evaluate  # imported here: it imports torch, which takes seconds

    evaluation = evaluate.evaluate(config)
    if evaluation is not None:
        cli.write_run_config(config, config.output)
        print(evaluate.table(evaluation, config.output))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(EvaluateConfig, main, writes=lambda config: [Output(location=config.output)])
