#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): frames keep columns that an H.264 or HEVC video cuts from its left edge.
#
# Expected: a decoded frame has the size of the stream, and shows the picture that the video states: its cropping
# rectangle is part of the coded video (H.264, frame_crop_left_offset), not a wish of the container.
# Seen: the frame is wider than the stream says. FFmpeg cuts from the left only as many columns as leave the rows at an
# address that suits the processor's vector instructions, and shows the rest. No error and no warning says so. With the
# flag `unaligned` the frame is cut whole, as FFmpeg's program shows it.
# What follows for vidclf: `open_video` in `vidclf/video/source.py` sets the flag.
#
# Usage: findings/pyav_left_cropping.sh   (installs into a temporary directory; exit code 1 if this changes)
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

content = io.BytesIO()
with av.open(content, "w", format="mp4") as file:
    # The columns 0 to 15 are to be cut. They are white here, and the rest is black.
    stream = file.add_stream("libx264", rate=25, options={"x264-params": "crop-rect=16,0,0,0", "qp": "0"})
    stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
    picture = np.zeros((144, 176, 3), np.uint8)
    picture[:, :16] = 255
    file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    file.mux(stream.encode(None))


def decoded(*flags):
    """Width of the stream, width of its frame, and grey level of the frame's first column."""
    with av.open(io.BytesIO(content.getvalue())) as file:
        stream = file.streams.video[0]
        for flag in flags:
            stream.codec_context.flags |= flag
        frame = next(file.decode(stream))
        return stream.width, frame.width, int(frame.to_ndarray(format="rgb24")[:, 0].mean())


plain, unaligned = decoded(), decoded(av.codec.context.Flags.unaligned)
print("by default:     stream {}, frame {} columns, the first one has the grey level {}".format(*plain))
print("with unaligned: stream {}, frame {} columns, the first one has the grey level {}".format(*unaligned))
is_as_seen = plain[0] == 160 and plain[1] == 176 and plain[2] > 250 and unaligned == (160, 160, unaligned[2]) and unaligned[2] < 5
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
