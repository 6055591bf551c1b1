"""Classify single videos over HTTP, with a web page for uploads.

python jobs/serve.py --ensemble ensemble/ [--host 127.0.0.1] [--port 5000] [--gpus 0.25]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli
from vidclf.config import ServeConfig


def main(config: ServeConfig) -> int:
    """Run the server until it is stopped. Returns the exit code 0."""
    from vidclf.server.serve import serve  # imported here: it imports torch and Ray, which takes seconds

    serve(config)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(ServeConfig, main)
