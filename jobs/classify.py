"""Classify every video of an archive with a trained ensemble (several models whose predictions are averaged).

python jobs/classify.py --input DIR|URI|LIST --ensemble ensemble/ --output predictions/ [--tta] [--segments 30]
python jobs/classify.py --features features/[,features/] --ensemble ensemble/ --output predictions/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.archive.manifest import list_archive, read_manifest
from vidclf.config import ClassifyConfig
from vidclf.runs.layout import Run
from vidclf.runs.lease import Output


def main(config: ClassifyConfig) -> int:
    """List the videos from one of the three inputs, and classify them. Returns the exit code."""
    if config.features:
        from vidclf.features.spec import read_spec

        read_spec(config.features[0])  # raises ConfigError unless it is a directory of features
        manifest = read_manifest(Run(config.features[0]).manifest_file, config.limit)
    elif config.manifest is not None:
        manifest = read_manifest(config.manifest, config.limit)
    else:
        assert config.input is not None  # ClassifyConfig requires one of the three
        listing = list_archive(config.input, labelled=False)
        print("".join(f"{line}\n" for line in listing.left_out()), end="", file=sys.stderr)
        manifest = listing.manifest
    # Imported here, because both import Ray and the first also torch, which takes seconds.
    from vidclf.classification.classify import classification
    from vidclf.pipeline.driver import embed_videos

    return cli.finish(config, embed_videos(config, manifest, *classification(config)))


def writes(config: ClassifyConfig) -> list[Output]:
    """Directories that the job writes. It holds a lease on each: a claim that keeps other jobs from writing there."""
    outputs = [Output(location=config.output)]
    if config.save_features is not None:
        outputs.append(Output(location=config.save_features, flag="--save-features"))
    return outputs


if __name__ == "__main__":
    cli.run(ClassifyConfig, main, writes)
