"""Memory of a decode worker and its decoder process over many videos, to detect leaks.

    python benchmarks/decode_memory.py [--archive DIR] [--videos 500]

One worker decodes the videos of the archive over and over. Its child process, in which the decoder runs, is never
replaced. After every 50 videos a row with the resident memory (MiB) of worker and child is printed. The exit code is 1
if their sum grew by more than 10 % between the first and the last row.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.archive.video_names import VIDEO_EXTENSIONS
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "examples" / "archive",
        help="archive of videos",
    )
    parser.add_argument("--videos", type=int, default=500, help="number of videos to decode, at least 50")
    arguments = parser.parse_args()
    videos = [path for path in sorted(arguments.archive.rglob("*.*")) if path.suffix[1:] in VIDEO_EXTENSIONS]
    transform = FrameTransform(resize_size=232, crop_size=224, interpolation="bilinear")
    limits = DecodeLimits(videos_per_child=arguments.videos + 1)
    decoder = SupervisedDecoder(SamplingPlan(), transform, 224 * 224 * 3, limits)
    print(describe("av", "torch"), "\n\n| videos | worker MiB | child MiB |\n|---|---|---|")
    outcomes: Counter[str] = Counter()
    totals = []
    for number, path in enumerate(itertools.islice(itertools.cycle(videos), arguments.videos), start=1):
        try:
            decoder.decode(str(path), "")
            outcomes["ok"] += 1
        except VideoRejected as rejected:
            outcomes[rejected.reason.value] += 1
        if number % 50 == 0:
            worker, child = _resident_mib("self"), _resident_mib(str(decoder.child_pid))
            totals.append(worker + child)
            print(f"| {number} | {worker:.0f} | {child:.0f} |", flush=True)
    decoder.close()
    growth = totals[-1] / totals[0]
    print(f"\nafter {arguments.videos} videos memory is {growth:.3f} of that after 50; results: {dict(outcomes)}")
    return 0 if growth <= 1.1 else 1


def _resident_mib(process: str) -> float:
    """Resident memory in MiB of a process, given by its id or `self`."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {process} has ended")


if __name__ == "__main__":
    sys.exit(main())
