#!/usr/bin/env bash
# PyAV 18.1.0 (wheel for Linux x86-64): the FFmpeg libraries inside report "LGPL version 3 or later", and yet they contain
# the encoders libx264 and libx265, which are under the GPL, version 2 or later.
#
# Expected: FFmpeg's configure refuses --enable-libx264 and --enable-libx265 without --enable-gpl, and the licence string of
# a build with them is "GPL …". A check of licences that reads this string takes the wheel for LGPL.
# Seen: every library reports "LGPL version 3 or later"; the configuration has --enable-libx264 and --enable-libx265, no
# --enable-gpl; both encoders encode a picture.
# What follows for vidclf: docs/reference/licences.md. vidclf itself only decodes.
#
# Usage: findings/pyav_licence_string.sh   (installs av==18.1.0 in a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$work" av==18.1.0 numpy==2.4.6
PYTHONPATH="$work" python3 - <<'PY'
import sys
from fractions import Fraction

import av
import numpy as np
from av._core import library_meta

licences = {meta["license"] for meta in library_meta.values()}
flags = library_meta["libavcodec"]["configuration"].split()
gpl_flags = [flag for flag in flags if flag in ("--enable-gpl", "--enable-libx264", "--enable-libx265")]
sizes = {}
for name in ("libx264", "libx265"):
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "yuv420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    sizes[name] = sum(packet.size for packet in [*encoder.encode(frame), *encoder.encode(None)])
print("av", av.__version__, "| licences:", licences, "| flags:", gpl_flags, "| encoded bytes:", sizes)
is_as_seen = (
    licences == {"LGPL version 3 or later"}
    and gpl_flags == ["--enable-libx264", "--enable-libx265"]
    and min(sizes.values()) > 0
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
