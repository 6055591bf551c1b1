#!/usr/bin/env bash
# PyAV 18.1.0: a gap in an MPEG transport stream raises BlockingIOError, as if a file were not ready.
#
# Expected: the demuxer looks for the next packet behind bytes that are none, or ends, or calls the data invalid.
# Seen: after 64 KiB without a sync byte FFmpeg's demuxer gives up with EAGAIN. PyAV raises BlockingIOError, "Resource
# temporarily unavailable", although the file is in memory. It means what it says: each further `demux` goes on where the
# last one stopped, and behind the gap all packets come. A gap of 200,000 zeros raises the error twice.
# What follows for vidclf: a reader that takes the error for the end loses the rest of a recording with a gap.
#
# Usage: findings/pyav_ts_resource_unavailable.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    av==18.1.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import io
import sys

import av
import numpy as np


def clip():
    """A transport stream of 30 frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(30):
            picture = np.full((64, 64, 3), number * 8, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def packets_and_errors(content):
    """Number of packets with data until the end, going on after errors, and each error with the number of packets
    before it."""
    num_packets, errors = 0, []
    with av.open(io.BytesIO(content), format="mpegts") as container:
        for _ in range(100):
            try:
                for packet in container.demux():
                    num_packets += packet.size > 0
                break
            except av.error.FFmpegError as error:
                errors.append((type(error).__name__, num_packets))
    return num_packets, errors


found = {size: packets_and_errors(clip() + bytes(size) + clip()) for size in (0, 10_000, 200_000)}
for size, (num_packets, errors) in found.items():
    print(f"gap of {size:6} bytes: {num_packets} packets, errors (with packets before): {errors}")
is_as_seen = found == {0: (60, []), 10_000: (60, []), 200_000: (60, [("BlockingIOError", 29)] * 2)}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
