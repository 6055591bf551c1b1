"""Embed sampled frames of every video of a manifest.

python jobs/extract.py --manifest manifest.parquet --output features/ --backbone efficientnet_v2_s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.archive.manifest import read_manifest
from vidclf.config import ExtractConfig
from vidclf.runs.lease import Output
from vidclf.runs.summary import summary_text


def main(config: ExtractConfig) -> int:
    manifest = read_manifest(config.manifest, config.limit)
    from vidclf.pipeline.extract import extract  # here, because it imports torch and Ray, which takes seconds

    summaries = extract(config, manifest)
    if summaries is not None:
        cli.write_run_config(config, config.output)
        for run, summary in summaries.items():
            print(summary_text(run, summary))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(ExtractConfig, main, writes=lambda config: [Output(location=config.output)])
