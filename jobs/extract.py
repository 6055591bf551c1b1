"""Compute a feature vector for each sampled frame of every video in a manifest, with a pretrained CNN.

A manifest is the table of videos that jobs/index.py writes.

python jobs/extract.py --manifest manifest.parquet --output features/ --backbone efficientnet_v2_s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.archive.manifest import read_manifest
from vidclf.config import ExtractConfig
from vidclf.runs.lease import Output


def main(config: ExtractConfig) -> int:
    """Compute the features, and print a summary of each output directory. Returns the exit code."""
    manifest = read_manifest(config.manifest)
    from vidclf.pipeline.extract import extract  # imported here: it imports torch and Ray, which takes seconds

    return cli.finish(config, extract(config, manifest))


if __name__ == "__main__":
    cli.run(ExtractConfig, main, writes=lambda config: [Output(location=config.output)])
