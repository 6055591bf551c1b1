"""Copy the results of a classification into a table (Iceberg, Delta, Lance, CSV), a labelling tool (Label Studio,
FiftyOne) or ActivityNet JSON; or an ensemble into ONNX or a directory for a model hub.

All rows become visible at once, and a second export of the same run or ensemble changes nothing.

python jobs/export.py --run predictions/ --to delta|iceberg|lance|fiftyone --output DIR|URI
python jobs/export.py --run predictions/ --to label-studio --only abstained --output tasks.json
python jobs/export.py --ensemble ensemble/ --to onnx|hub-directory --output FILE.onnx|DIR
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import ExportConfig
from vidclf.runs.lease import Output


def main(config: ExportConfig) -> int:
    """Export the rows or the ensemble and print a summary. Returns the exit code 0."""
    from vidclf.export import job  # imported here: the libraries of the table formats take a second

    print(job.export(config))
    return cli.EXIT_OK


def outputs(config: ExportConfig) -> list[Output]:
    """The location that the job writes to; none for a catalog that locks its tables itself."""
    return [] if config.is_catalog else [Output(location=config.output, is_file=config.is_file)]


if __name__ == "__main__":
    cli.run(ExportConfig, main, writes=outputs)
