"""One S3 server (moto) for all tests of this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from pyarrow import fs


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Host and port of the server.

    All test files share it, because `vidclf.storage` keeps the filesystem object of a bucket, and with it the port.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=30).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def endpoint(s3_server: str) -> Iterator[str]:
    """Address of the server; jobs and their workers inherit environment variables that point to it."""
    environment = {
        "AWS_ENDPOINT_URL": f"http://{s3_server}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        fs.FileSystem.from_uri("s3://archive?allow_bucket_creation=true")[0].create_dir("archive")
        yield s3_server
    finally:
        os.environ.clear()
        os.environ.update(before)
