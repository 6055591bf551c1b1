"""Classify every video of an archive with a trained ensemble (several models whose predictions are averaged), or by
labels in words.

python jobs/classify.py --input DIR|URI|LIST --ensemble ensemble/ --output predictions/ [--tta] [--segments 30]
python jobs/classify.py --features features/[,features/] --ensemble ensemble/ --output predictions/
python jobs/classify.py --input DIR|URI|LIST --labels labels.yaml --backbone open_clip/MODEL:TAG --output predictions/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.classification.archive_job import written
from vidclf.config import ClassifyConfig
from vidclf.words.archive_job import classify_videos


def main(config: ClassifyConfig) -> int:
    """Classify the videos and print a summary. Returns the exit code."""
    return cli.finish(config, classify_videos(config))


if __name__ == "__main__":
    cli.run(ClassifyConfig, main, written)
