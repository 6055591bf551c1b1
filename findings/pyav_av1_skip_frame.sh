#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8 with libdav1d): `codec_context.skip_frame` counts only before the first packet of an AV1 stream.
#
# Expected: skip_frame may be set before each packet, as with H.264: "NONREF" before the packets of frames that nobody
# needs, "DEFAULT" before the others.
# Seen: libdav1d reads it once, when the decoder opens. "NONREF" before the first packet alone loses about half of the
# frames of the whole stream. "NONREF" before every packet but the first skips nothing.
# What follows for vidclf: `decoded_frames` in `vidclf/video/planned_reader.py` leaves `skip_frame` alone for decoders of
# other libraries, libdav1d among them.
#
# Usage: findings/pyav_av1_skip_frame.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    av==18.1.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import io
import os
import sys
from fractions import Fraction

import av
import numpy as np

os.environ["SVT_LOG"] = "1"  # errors only


def encoded(codec):
    """MP4 file of 60 frames, encoded with `codec`."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 64, "yuv420p", Fraction(1, 25)
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index * 4, np.uint8), format="rgb24")
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return content.getvalue()


def num_decoded(content, first, others):
    """Number of decoded frames with skip_frame `first` before the first packet and `others` before each other one."""
    with av.open(io.BytesIO(content)) as file:
        codec = file.streams.video[0].codec_context
        codec.thread_count = 1
        count = 0
        for index, packet in enumerate(file.demux(video=0)):
            codec.skip_frame = others if index else first
            count += len(packet.decode())
        return count


h264, av1 = encoded("libx264"), encoded("libsvtav1")
modes = (("DEFAULT", "DEFAULT"), ("NONREF", "DEFAULT"), ("DEFAULT", "NONREF"))
seen = {name: [num_decoded(video, *mode) for mode in modes] for name, video in (("H.264", h264), ("AV1", av1))}
for name, counts in seen.items():
    print(f"{name:6}", ", ".join(f"{first} then {others}: {n}" for (first, others), n in zip(modes, counts)))
is_as_seen = (
    seen["H.264"][:2] == [60, 60] and seen["H.264"][2] < 45
    and seen["AV1"][0] == 60 and seen["AV1"][1] < 45 and seen["AV1"][2] == 60
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
