"""Convert the weights of a backbone (a CNN that computes features) to 8-bit integers, for faster CPUs.

The value ranges are calibrated on frames of some videos.

python jobs/quantize.py --input DIR|URI|LIST --backbone resnet50 --output resnet50-int8.safetensors
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.archive.manifest import list_unlabelled
from vidclf.config import QuantizeConfig
from vidclf.runs.lease import Output


def main(config: QuantizeConfig) -> int:
    """Convert the weights, write the file and print how much features change. Returns the exit code 0."""
    manifest = list_unlabelled(config.input)
    from vidclf.backbones.int8_calibration import quantize  # imported here: it imports torch, which takes seconds

    print(quantize(config, manifest))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(QuantizeConfig, main, writes=lambda config: [Output(location=config.output, is_file=True)])
