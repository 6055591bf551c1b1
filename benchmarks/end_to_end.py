"""Videos to features on disk: `jobs/extract.py` beside the reference system's way, what users would write
otherwise, and the least that the work takes.

    python benchmarks/end_to_end.py --archive DIR [--backbones resnet50] [--rounds 3] [--quick] [--json FILE]

The work: 73 frames of each of N videos of 60 s, 640×360, 30 frames/s, H.264, cut together from the archive's;
random weights. Every way runs over N and over 2N videos in a process tree of its own, in turn; what a video
costs is the difference over N, so starting and stopping fall out, and figures are medians over the rounds. N is
such that what a start costs more in one run than in another is little beside N videos.

The floor is feeding the decoder the packets that the frames need, plus the network's multiplications and
additions at the rate of a large matrix product on one thread of this machine, in bf16 or in fp32 where that is
faster, for the frames that differ. The plain loop is that of `pipeline.py`: the same decoder and engine without Ray.

`first look` is ours over 8 keyframes, the first pass of `jobs/classify.py --progressive`. With the share of videos
that it decides (`--decided-early`, which `progressive.py` finds on real ones), progressive classification costs the
first look at every video and a full pass of the others.

`--int8` adds ours with weights of 8-bit integers, calibrated on frames of these clips (`jobs/quantize.py`).

`--json` writes, for the last backbone, `ratio_vs_reference` (its CPU seconds a video over ours),
`ratio_vs_floor` (the floor over ours), `ray_overhead` (ours over the plain loop's, less 1) and with
`--decided-early` `progressive_ratio_vs_reference`, with `--int8` `int8_ratio_vs_reference`.
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
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.cnn import Backbone
from vidclf.backbones.int8_calibration import quantize
from vidclf.backbones.repeated_frames import distinct
from vidclf.config import QuantizeConfig

ROOT = Path(__file__).resolve().parents[1]
CLIP = Clip(name="60 s 360p", duration_s=60, size=(640, 360))
NUM_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class Way:
    """A command that is given a manifest and an output, and how many videos it is measured over."""

    command: list[str]
    num_videos: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive")
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where the clips are kept")
    parser.add_argument("--backbones", default="resnet50")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median is taken")
    parser.add_argument(
        "--quick", action="store_true", help="one round, and only ours, the first look, the loop and the reference"
    )
    parser.add_argument("--int8", action="store_true", help="ours with weights of 8-bit integers too")
    parser.add_argument("--only", help="only the ways with these names, separated by semicolons")
    parser.add_argument("--decided-early", type=float, help="share of videos that the first look decides")
    parser.add_argument("--json", type=Path, help="write the ratios here")
    arguments = parser.parse_args()
    clips = [
        make_clip(replace(CLIP, first=2 * n), arguments.archive, arguments.clips).resolve() for n in range(NUM_CLIPS)
    ]
    print(describe("ray", "openvino", "torch", "av", "opencv-python-headless", "daft"), "\n", flush=True)
    for name in arguments.backbones.split(","):
        int8 = quantized(name, clips, arguments.clips) if arguments.int8 else None
        ways = ways_for(name, int8, 2 if arguments.quick else 6)
        if arguments.quick:
            few = ("ours", "ours, int8", "first look", "plain loop", "reference")
            ways = {key: way for key, way in ways.items() if key in few}
        if arguments.only:
            ways = {key: way for key, way in ways.items() if key in arguments.only.split(";")}
        found = compare(name, ways, clips, 1 if arguments.quick else arguments.rounds, arguments.decided_early)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def quantized(name: str, clips: list[Path], folder: Path) -> Path:
    """Weights of 8-bit integers, made of the random ones and calibrated on the clips."""
    weights = (folder / f"{name}-int8.safetensors").resolve()
    with tempfile.TemporaryDirectory() as place:
        manifest = repeat(clips, 1, Path(place) / "archive")
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
    """All there are; the faster ones go over the clips `turns` times, the reference's over `turns` of them."""
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
    floor_s = floor(name, clips)
    cpu_s: dict[str, list[float]] = {key: [] for key in ways}
    wall_s: dict[str, list[float]] = {key: [] for key in ways}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for number in range(rounds):
            for key, way in ways.items():
                spent = []
                for times in (1, 2):
                    place = folder / f"{key.replace(' ', '-')}-{number}-{times}"
                    chosen = [clips[n % len(clips)] for n in range(way.num_videos * times)]
                    manifest = repeat(chosen, 1, place / "archive")
                    filled = {"MANIFEST": manifest, "OUTPUT": str(place / "output")}
                    taken_s, used_s = pipeline.run([filled.get(word, word) for word in way.command])
                    spent.append((used_s.total(), taken_s))
                cpu_s[key].append((spent[1][0] - spent[0][0]) / way.num_videos)
                wall_s[key].append((spent[1][1] - spent[0][1]) / way.num_videos)
                print(f"{name}, round {number}: {key} {cpu_s[key][-1]:.2f} CPU s a video", file=sys.stderr, flush=True)
    median = {key: statistics.median(values) for key, values in cpu_s.items()}
    print(f"{name}: the floor is {floor_s:.2f} CPU seconds a video\n")
    print("| | CPU seconds a video | times ours | seconds a video | spread of CPU seconds |\n|---|---|---|---|---|")
    for key, seconds in median.items():
        print(
            f"| {key} | {seconds:.2f} | {seconds / median['ours']:.2f} | {statistics.median(wall_s[key]):.2f} | "
            f"{min(cpu_s[key]):.2f} to {max(cpu_s[key]):.2f} |"
        )
    found = {"ratio_vs_floor": floor_s / median["ours"]}
    if "reference" in median:
        found["ratio_vs_reference"] = median["reference"] / median["ours"]
        if "ours, int8" in median:
            found["int8_ratio_vs_reference"] = median["reference"] / median["ours, int8"]
    if "plain loop" in median:
        found["ray_overhead"] = median["ours"] / median["plain loop"] - 1
    if decided_early is not None:
        found["progressive_s"] = median["first look"] + (1 - decided_early) * median["ours"]
        if "reference" in median:
            found["progressive_ratio_vs_reference"] = median["reference"] / found["progressive_s"]
    print("\n" + ", ".join(f"{key} {value:.3f}" for key, value in found.items()) + "\n", flush=True)
    return found


def floor(name: str, clips: list[Path]) -> float:
    """CPU seconds for a video, on average over the clips."""
    transform = preprocessing(name, "random").transform
    network = Backbone(name, preprocessing(name, "random")).eval()
    side = transform.crop_size
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    cnn_s = counter.get_total_flops() / max(flops_per_s(dtype) for dtype in (torch.bfloat16, torch.float32))
    total = 0.0
    for clip in clips:
        task = decode.task_of(CLIP, clip)
        decode_s = statistics.median(decode.cpu_seconds("floor", task) for _ in range(3))
        frames_THWC = decode.decode.decode_video(task.path, task.plan, transform).frames_THWC
        total += decode_s + len(distinct(frames_THWC, [len(frames_THWC)])[0]) * cnn_s
    return total / len(clips)


def flops_per_s(dtype: torch.dtype, size: int = 2048) -> float:
    """Multiplications and additions a second of the best of some large matrix products on one thread."""
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
