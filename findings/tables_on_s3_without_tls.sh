#!/usr/bin/env bash
# deltalake 1.6.6, Lance 14.0.2, pyiceberg 0.12.0: AWS_ENDPOINT_URL reaches an S3 server without TLS only by pyarrow.
#
# Expected: the variable, which AWS's own tools and pyarrow 26.0.1 read, is enough to write a table to that server, or the
# library says what it lacks.
# Seen: deltalake and Lance read the variable, and refuse an address with http:// ("URL scheme is not allowed", "builder
# error") until AWS_ALLOW_HTTP is true, which no message names. The file system that
# pyiceberg makes does not read AWS_ENDPOINT_URL at all and would go to Amazon. It needs `s3.endpoint`.
# What follows for vidclf: `--to delta` and `--to lance` set `allow_http` where the endpoint is http://. For Iceberg the
# guide of export names `s3.endpoint`.
#
# Usage: findings/tables_on_s3_without_tls.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    deltalake==1.6.6 pylance==14.0.2 "pyiceberg[pyarrow]==0.12.0" pyarrow==26.0.1 boto3==1.44.8 "moto[server]==5.2.5"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import logging
import os
import sys

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
endpoint = "http://127.0.0.1:{1}".format(*server.get_host_and_port())
os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": endpoint}
os.environ |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
boto3.client("s3").create_bucket(Bucket="bucket")

import lance  # noqa: E402
import pyarrow as pa  # noqa: E402
from deltalake import write_deltalake  # noqa: E402
from pyarrow import fs  # noqa: E402
from pyiceberg.io import load_file_io  # noqa: E402

rows = pa.table({"video": ["a", "b"]})
by_pyarrow = fs.FileSystem.from_uri("s3://bucket")[0].get_file_info("bucket").type
print("pyarrow finds the bucket:", by_pyarrow)
seen = {}
for allows in (False, True):
    if allows:
        os.environ["AWS_ALLOW_HTTP"] = "true"
    for name, write in (("deltalake", write_deltalake), ("lance", lambda uri, rows: lance.write_dataset(rows, uri))):
        try:
            write(f"s3://bucket/{name}", rows)
            result = "written"
        except OSError as error:
            result = str(error)
        names_remedy = "allow_http" in result.lower() or "tls" in result.lower()
        seen[name, allows] = "written" if result == "written" else ("refused", names_remedy)
        print(f"{name}, AWS_ALLOW_HTTP {'true' if allows else 'not set'}:", " ".join(result.split())[:250])
for properties in ({}, {"s3.endpoint": endpoint}):
    files = load_file_io({"s3.region": "us-east-1", **properties}).fs_by_scheme("s3", "bucket")
    address = files.__reduce__()[1][0]["endpoint_override"]
    seen["pyiceberg", bool(properties)] = address
    print(f"pyiceberg with properties {properties}: endpoint {address!r}")
server.stop()
is_as_seen = by_pyarrow == fs.FileType.Directory and seen == {
    ("deltalake", False): ("refused", False),
    ("lance", False): ("refused", False),
    ("deltalake", True): "written",
    ("lance", True): "written",
    ("pyiceberg", False): "",
    ("pyiceberg", True): endpoint,
}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
