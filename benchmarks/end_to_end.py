"""Time from videos to features on disk: `jobs/extract.py` compared with other programs and with a lower bound.

    python benchmarks/end_to_end.py --archive DIR [--backbones resnet50] [--rounds 3] [--quick] [--json FILE]

Each program computes CNN features of 73 frames per video, with random weights. The videos are 60 s long (640×360, 30
frames/s, H.264) and concatenated from the videos of the archive. Each program runs in its own processes over N and over
2N videos; the programs take turns. The cost of a video is the difference divided by N, so start and end do not count.
N is so large that the variation of the start is small compared with N videos. Rows of the table:

- ours: `jobs/extract.py`; ours, int8 (with `--int8`): the same with 8-bit integer weights, which are calibrated on
  frames of these clips as in `jobs/quantize.py`;
- first look: `jobs/extract.py` on 8 keyframes per video, the first pass of `jobs/classify.py --progressive`;
- plain loop: a loop in `pipeline.py` with the same decoder and CNN, without Ray;
- reference: `baseline.py`, which works like the older system whose checkpoints and HDF5 files vidclf reads;
- Ray Data script, feature scripts, Daft: programs that users might write instead, see `peers.py`.

Columns: median CPU seconds per video, the same relative to ours, elapsed seconds per video, and smallest and largest
CPU seconds of the rounds.

The lower bound ("floor") adds two parts. Decoding: the decoder gets only the packets that the frames need. CNN: its
number of floating point operations for all frames that differ, divided by the rate of a large matrix product on one
thread of this machine, in bfloat16 or float32, whichever is faster.

`--decided-early` is the share of videos that progressive classification decides at the first look; `progressive.py`
measures it on real videos. Its cost is then the first look for all videos and `ours` for the others.

`--json` writes ratios of CPU seconds per video, of the last backbone: `ratio_vs_floor` (floor / ours),
`ratio_vs_reference` (reference / ours), `ray_overhead` (ours / plain loop, less 1). With `--int8` also
`int8_ratio_vs_reference`. With `--decided-early` also `progressive_s` (seconds) and `progressive_ratio_vs_reference`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import decode, pipeline
from benchmarks.decode import Clip, make_clip
from benchmarks.machine import describe
from benchmarks.repeated import repeat
from vidclf import storage
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.int8_calibration import quantize
from vidclf.backbones.repeated_frames import distinct
from vidclf.backbones.resolve import resolve
from vidclf.config import QuantizeConfig
from vidclf.video.decode import decode_video

ROOT = Path(__file__).resolve().parents[1]
CLIP = Clip(name="60 s 360p", duration_s=60, size=(640, 360))
NUM_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class Way:
    """A program to measure: its command, in which MANIFEST and OUTPUT are replaced, and the number N of videos."""

    command: list[str]
    num_videos: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive",
        type=Path,
        default=ROOT / "examples" / "archive",
        help="archive of videos to make the test clips from",
    )
    parser.add_argument(
        "--clips",
        type=Path,
        default=Path("benchmark_clips"),
        help="directory in which the test clips are stored and reused",
    )
    parser.add_argument("--backbones", default="resnet50", help="names of the CNNs, comma-separated")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds in which the programs take turns; the median is printed"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a single round with fewer videos, without the programs of peers.py"
    )
    parser.add_argument("--int8", action="store_true", help="measure vidclf with 8-bit integer weights too")
    parser.add_argument("--only", help="names of the rows to measure, separated by semicolons; must contain ours")
    parser.add_argument(
        "--decided-early", type=float, help="share of videos (0 to 1) that are decided at the first look"
    )
    parser.add_argument("--json", type=Path, help="file to which the ratios are written")
    arguments = parser.parse_args()
    clips = [
        make_clip(replace(CLIP, first=2 * n), arguments.archive, arguments.clips).resolve() for n in range(NUM_CLIPS)
    ]
    print(describe("ray", "openvino", "torch", "av", "opencv-python-headless", "daft"), "\n", flush=True)
    for name in arguments.backbones.split(","):
        int8 = quantized(name, clips, arguments.clips) if arguments.int8 else None
        ways = ways_for(name, int8, 2 if arguments.quick else 6)
        if arguments.quick:
            quick_names = ("ours", "ours, int8", "first look", "plain loop", "reference")
            ways = {key: way for key, way in ways.items() if key in quick_names}
        if arguments.only:
            ways = {key: way for key, way in ways.items() if key in arguments.only.split(";")}
        ratios = compare(name, ways, clips, 1 if arguments.quick else arguments.rounds, arguments.decided_early)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(ratios, indent=2) + "\n")


def quantized(name: str, clips: list[Path], folder: Path) -> Path:
    """Path of a file with 8-bit integer weights, made from random weights and calibrated on the clips."""
    weights = (folder / f"{name}-int8.safetensors").resolve()
    with tempfile.TemporaryDirectory() as job_folder:
        manifest = repeat(clips, 1, Path(job_folder) / "archive")
        config = QuantizeConfig(
            input=manifest,
            backbone=name,
            weights="random",
            output=str(weights),
            frames_per_video=32,
            overwrite=True,
        )
        print(quantize(config, storage.read_table(manifest)), file=sys.stderr)
    return weights


def ways_for(name: str, int8: Path | None, turns: int) -> dict[str, Way]:
    """All programs to measure, by the name of their row.

    The number of videos depends on the speed of a program. `ours` and the plain loop process all clips `turns` times,
    the first look twice as often. The slow program `reference` processes only `turns` videos.
    """
    flags = ["--backbone", name, "--weights", "random"]
    peers = str(ROOT / "benchmarks/peers.py")
    ways = {
        "ours": Way(
            command=[str(ROOT / "jobs/extract.py"), *flags, "--manifest", "MANIFEST", "--output", "OUTPUT"],
            num_videos=turns * NUM_CLIPS,
        ),
        "ours, int8": Way(
            command=[
                *[str(ROOT / "jobs/extract.py"), "--backbone", name, "--weights", str(int8)],
                *["--manifest", "MANIFEST", "--output", "OUTPUT"],
            ],
            num_videos=turns * NUM_CLIPS,
        ),
        "first look": Way(
            command=[
                *[str(ROOT / "jobs/extract.py"), *flags, "--sampling", "keyframes", "--num-frames", "8"],
                *["--manifest", "MANIFEST", "--output", "OUTPUT"],
            ],
            num_videos=2 * turns * NUM_CLIPS,
        ),
        "plain loop": Way(
            command=[pipeline.__file__, *flags, "--loop", "MANIFEST", "OUTPUT"], num_videos=turns * NUM_CLIPS
        ),
        "reference": Way(
            command=[str(ROOT / "benchmarks/baseline.py"), "MANIFEST", "OUTPUT", *flags], num_videos=turns
        ),
        "Ray Data script": Way(command=[peers, "ray-data", "MANIFEST", "OUTPUT", *flags], num_videos=4),
        "feature scripts": Way(command=[peers, "feature-scripts", "MANIFEST", "OUTPUT", *flags], num_videos=2),
    }
    if int8 is None:
        del ways["ours, int8"]
    if importlib.util.find_spec("daft") is not None:
        ways["Daft"] = Way(command=[peers, "daft", "MANIFEST", "OUTPUT", *flags], num_videos=4)
    return ways


def compare(
    name: str, ways: dict[str, Way], clips: list[Path], rounds: int, decided_early: float | None
) -> dict[str, float]:
    """Measure the programs with the CNN `name`, print the table, and return the ratios by name."""
    floor_s = floor(name, clips)
    cpu_s: dict[str, list[float]] = {key: [] for key in ways}
    wall_s: dict[str, list[float]] = {key: [] for key in ways}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for number in range(rounds):
            for key, way in ways.items():
                spent = []
                for times in (1, 2):
                    job_folder = folder / f"{key.replace(' ', '-')}-{number}-{times}"
                    chosen = [clips[n % len(clips)] for n in range(way.num_videos * times)]
                    manifest = repeat(chosen, 1, job_folder / "archive")
                    placeholders = {"MANIFEST": manifest, "OUTPUT": str(job_folder / "output")}
                    taken_s, used_s = pipeline.run([placeholders.get(word, word) for word in way.command])
                    spent.append((used_s.total(), taken_s))
                cpu_s[key].append((spent[1][0] - spent[0][0]) / way.num_videos)
                wall_s[key].append((spent[1][1] - spent[0][1]) / way.num_videos)
                print(
                    f"{name}, round {number}: {key} {cpu_s[key][-1]:.2f} CPU s per video", file=sys.stderr, flush=True
                )
    median = {key: statistics.median(values) for key, values in cpu_s.items()}
    print(f"{name}: the floor (lower bound) is {floor_s:.2f} CPU seconds per video\n")
    print("| | CPU seconds a video | times ours | seconds a video | spread of CPU seconds |\n|---|---|---|---|---|")
    for key, seconds in median.items():
        print(
            f"| {key} | {seconds:.2f} | {seconds / median['ours']:.2f} | {statistics.median(wall_s[key]):.2f} | "
            f"{min(cpu_s[key]):.2f} to {max(cpu_s[key]):.2f} |"
        )
    ratios = {"ratio_vs_floor": floor_s / median["ours"]}
    if "reference" in median:
        ratios["ratio_vs_reference"] = median["reference"] / median["ours"]
        if "ours, int8" in median:
            ratios["int8_ratio_vs_reference"] = median["reference"] / median["ours, int8"]
    if "plain loop" in median:
        ratios["ray_overhead"] = median["ours"] / median["plain loop"] - 1
    if decided_early is not None:
        ratios["progressive_s"] = median["first look"] + (1 - decided_early) * median["ours"]
        if "reference" in median:
            ratios["progressive_ratio_vs_reference"] = median["reference"] / ratios["progressive_s"]
    print("\n" + ", ".join(f"{key} {value:.3f}" for key, value in ratios.items()) + "\n", flush=True)
    return ratios


def floor(name: str, clips: list[Path]) -> float:
    """Lower bound of the CPU seconds per video: decoding and CNN, mean over the clips."""
    model = resolve(name, "random")
    transform = model.preprocessing.transform
    network = Backbone(model).eval()
    side = transform.crop_size
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    cnn_s = counter.get_total_flops() / max(flops_per_s(dtype) for dtype in (torch.bfloat16, torch.float32))
    total = 0.0
    for clip in clips:
        task = decode.task_of(CLIP, clip)
        decode_s = statistics.median(decode.cpu_seconds("floor", task) for _ in range(3))
        frames_THWC = decode_video(task.path, task.plan, transform).frames_THWC
        total += decode_s + len(distinct(frames_THWC, [len(frames_THWC)])[0]) * cnn_s
    return total / len(clips)


def flops_per_s(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating point operations per second: the fastest of ten large matrix products on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    best_s = float("inf")
    for _ in range(10):
        started = time.process_time()
        a @ b
        best_s = min(best_s, time.process_time() - started)
    torch.set_num_threads(threads)
    return 2 * size**3 / best_s


if __name__ == "__main__":
    main()
