"""Compute features of sampled frames of every video of a manifest, with a pretrained CNN.

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
    manifest = read_manifest(config.manifest, config.limit)
    from vidclf.pipeline.extract import extract  # imported here: it imports torch and Ray, which takes seconds

    return cli.finish(config, extract(config, manifest))


if __name__ == "__main__":
    cli.run(ExtractConfig, main, writes=lambda config: [Output(location=config.output)])
