"""Decoding speed of the video decoder in the GPU (NVDEC) compared with one CPU thread, at 1920×1080.

    python benchmarks/gpu/nvdec.py --results results.jsonl [--small]

The results are `decode_cpu` and `decode_nvdec`, in frames per second of one video. PyAV can use NVDEC if its FFmpeg was
built with it and the library libnvcuvid of the driver is installed. Otherwise `decode_nvdec` has the reason in the
field `missing`.
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
            results.add(
                arguments.results,
                "decode_nvdec",
                missing=f"the FFmpeg of PyAV supports only: {', '.join(devices) or 'none'}",
            )
            return
        try:
            rate = frames_per_s(video, HWAccel("cuda", allow_software_fallback=False))
        except (av.FFmpegError, NotImplementedError, RuntimeError) as error:
            results.add(arguments.results, "decode_nvdec", missing=str(error))
            return
        results.add(arguments.results, "decode_nvdec", frames_per_s=round(rate, 1), size=size)


def frames_per_s(video: Path, hwaccel: HWAccel | None) -> float:
    """Decoded frames per second of one video, with one thread and with `hwaccel` if it is not None."""
    started = time.perf_counter()
    with av.open(str(video), hwaccel=hwaccel) as container:
        container.streams.video[0].codec_context.thread_count = 1
        count = sum(1 for _ in container.decode(video=0))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
