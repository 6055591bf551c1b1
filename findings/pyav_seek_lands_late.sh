#!/usr/bin/env bash
# PyAV 18.1.0: after `seek(t)` the first decoded frame may be later than t, and how much later depends on the container.
#
# Expected: `container.seek(t, stream=…)`, whose default is backward, leads to the keyframe at or before t, so that
# decoding from there gives the frame at t.
# Seen: so it is in MP4, MOV and Matroska. An MPEG transport stream has no index: there the seek leads to the packet whose
# decoding time is t. It lies behind the packet of the frame at t, and the decoder waits for the next keyframe. Of 120
# frames with a keyframe at most every 30, none is reached, not even a keyframe. In AVI and FLV the index has decoding
# times, so that the frames right before a keyframe are missed.
# What follows for vidclf: `vidclf/video/planned_reader.py` does not seek by time. It notes the time of every packet
# once, and then feeds the decoder from the keyframe before the frame.
#
# Usage: findings/pyav_seek_lands_late.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    av==18.1.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import fractions
import sys

import av
import numpy as np


def write(path):
    """Write 120 frames at 25 fps, a keyframe every 30, three B-frames in a row."""
    options = {"g": "30", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(120):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, fractions.Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


av.logging.set_level(av.logging.PANIC)
missed = {}
for kind in ("mp4", "mov", "mkv", "ts", "avi", "flv"):
    write(f"video.{kind}")
    with av.open(f"video.{kind}") as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert len(times) == 120
    late = []
    for number, time in enumerate(times):
        with av.open(f"video.{kind}") as container:
            stream = container.streams.video[0]
            container.seek(time, stream=stream)
            first = next(container.decode(stream), None)
            if first is None or first.pts > time:
                late.append(120 - number if first is None else times.index(first.pts) - number)
    missed[kind] = len(late), max(late, default=0)
    print(f"{kind}: {len(late)} of 120 seeks miss their frame, by up to {max(late, default=0)} frames")
is_as_seen = missed["mp4"] == missed["mov"] == missed["mkv"] == (0, 0)
is_as_seen = is_as_seen and missed["ts"][0] == 120 and missed["avi"][0] > 0 and missed["flv"][0] > 0
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
