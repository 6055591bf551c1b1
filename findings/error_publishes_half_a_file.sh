#!/usr/bin/env bash
# pyarrow 26.0.1: an error inside `with` publishes what was written until then, as a whole file.
#
# Expected: a Parquet file whose writer was left by an exception has no footer, and cannot be read. An object of S3
# appears when it is complete; an upload that was left by an exception is given up.
# Seen: `ParquetWriter` writes its footer on the way out, so the file is valid and has the first rows only.
# `open_output_stream` completes the upload, of one part or of several: the object with the beginning of the data replaces
# the earlier one. s3fs 2026.9.0 does the same.
# What follows for vidclf: `vidclf/storage.py` writes into a temporary file, and opens the object only when the whole
# content is there.
#
# Usage: findings/error_publishes_half_a_file.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    pyarrow==26.0.1 s3fs==2026.9.0 "moto[server]==5.2.5"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import logging
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import s3fs
from moto.server import ThreadedMotoServer
from pyarrow import fs

os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
endpoint = "http://127.0.0.1:{1}".format(*server.get_host_and_port())
store = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True, request_timeout=60)
store.create_dir("bucket")
rows = pa.table({"video": list(range(10))})
pq.write_table(rows, "bucket/rows.parquet", filesystem=store)

try:
    with pq.ParquetWriter("bucket/rows.parquet", rows.schema, filesystem=store) as writer:
        writer.write_table(rows.slice(0, 4))
        raise RuntimeError("the program found an error in the fifth row")
except RuntimeError:
    num_rows = pq.read_table("bucket/rows.parquet", filesystem=store).num_rows
print("ParquetWriter: the object of 10 rows now has", num_rows)

sizes = {}
for num_bytes in (10, 12_000_000):
    for name in ("pyarrow", "s3fs"):
        with store.open_output_stream(f"bucket/{name}") as stream:
            stream.write(b"whole " * 4_000_000)
    try:
        with store.open_output_stream("bucket/pyarrow") as stream:
            stream.write(bytes(num_bytes))
            raise RuntimeError
    except RuntimeError:
        pass
    try:
        with s3fs.S3FileSystem(client_kwargs={"endpoint_url": endpoint}).open("bucket/s3fs", "wb") as stream:
            stream.write(bytes(num_bytes))
            raise RuntimeError
    except RuntimeError:
        pass
    sizes[num_bytes] = [store.get_file_info(f"bucket/{name}").size for name in ("pyarrow", "s3fs")]
    print(f"an error after {num_bytes} of 24000000 bytes: size of the object by pyarrow and by s3fs {sizes[num_bytes]}")
server.stop()
is_as_seen = num_rows == 4 and sizes == {10: [10, 10], 12_000_000: [12_000_000, 12_000_000]}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
