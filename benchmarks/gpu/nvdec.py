"""The GPU's own decoder against the CPU at 1080p, where a package that can use it is at hand.

    python benchmarks/gpu/nvdec.py --results results.jsonl [--small]

PyAV's wheel decodes with NVDEC where its FFmpeg was built with it and the driver's libnvcuvid is there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from benchmarks.gpu import results
from tests.support.videos import write_video


def main() -> None:
    arguments = results.parser(__doc__).parse_args()
    size, num_frames = ((320, 180), 20) if arguments.small else ((1920, 1080), 150)
    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "v.mp4", num_frames, fps=30, size=size, noise=True)
        rate = frames_per_s(video, None)
        results.add(arguments.results, "decode_cpu", frames_per_s=round(rate, 1), size=size)
        devices = hwdevices_available()
        if "cuda" not in devices:
            results.add(arguments.results, "decode_nvdec", missing=f"PyAV's FFmpeg has {', '.join(devices) or 'none'}")
            return
        try:
            rate = frames_per_s(video, HWAccel("cuda", allow_software_fallback=False))
        except (av.FFmpegError, NotImplementedError, RuntimeError) as error:
            results.add(arguments.results, "decode_nvdec", missing=str(error))
            return
        results.add(arguments.results, "decode_nvdec", frames_per_s=round(rate, 1), size=size)


def frames_per_s(video: Path, hwaccel: HWAccel | None) -> float:
    """Of one stream with one thread."""
    started = time.perf_counter()
    with av.open(str(video), hwaccel=hwaccel) as container:
        container.streams.video[0].codec_context.thread_count = 1
        count = sum(1 for _ in container.decode(video=0))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
