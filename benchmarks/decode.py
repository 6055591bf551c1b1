"""CPU seconds to get the 73 sampled frames of a video: ours against the ways others do it.

    python benchmarks/decode.py [--archive DIR] [--rounds 5] [--clips DIR]

The clips are made from the archive's own videos, cut one after another and encoded as web video is
(H.264, x264's defaults at a streaming bit rate, 30 frames a second). Methods take turns, so that a
noisy machine hurts all alike; the figure is the median over the rounds. Only `ours` brings the
frames to model resolution; the others stop at RGB frames of the video's size, and `full decode` and
`floor` at the decoder. Missing peers (`pip install torchcodec decord`) are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.archive.manifest import VIDEO_EXTENSIONS
from vidclf.video import decode, packets, planned_reader, sampling
from vidclf.video.decoder_child import keep_freed_memory
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.packets import PacketRange
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import open_video

NUM_FRAMES = 73
FPS = 30
BITS_PER_S = {(640, 360): 730_000, (1280, 720): 3_000_000}
"""What Apple's HLS Authoring Specification recommends for H.264 of these sizes."""
RESNET50 = FrameTransform(resize_size=232, crop_size=224, interpolation="bilinear")


@dataclass(frozen=True, kw_only=True)
class Clip:
    name: str
    duration_s: int
    size: tuple[int, int]
    gop: int = 250
    """longest distance of keyframes, in frames; 250 is x264's default"""
    num_frames: int = NUM_FRAMES
    first: int = 0
    """which of each class's videos it begins with"""


CLIPS = [
    Clip(name="10 s 360p", duration_s=10, size=(640, 360)),
    Clip(name="60 s 360p", duration_s=60, size=(640, 360)),
    Clip(name="60 s 360p, keyframe every 30", duration_s=60, size=(640, 360), gop=30),
    Clip(name="240 s 360p", duration_s=240, size=(640, 360)),
    Clip(name="240 s 360p, 16 frames", duration_s=240, size=(640, 360), num_frames=16),
    Clip(name="60 s 720p", duration_s=60, size=(1280, 720)),
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A file and what the methods that are told the frames beforehand are told."""

    path: str
    plan: SamplingPlan
    frame_numbers: list[int]
    """in order of presentation"""
    wanted_ticks: npt.NDArray[np.int64]
    runs: list[PacketRange]


def ours(task: Task) -> int:
    return len(decode.decode_video(task.path, task.plan, RESNET50).frames_THWC)


def ours_avoiding_black(task: Task) -> int:
    """The default: other frames, beyond those the others decode, are looked at in place of black ones."""
    return len(decode.decode_video(task.path, replace(task.plan, avoid_black=True), RESNET50).frames_THWC)


def floor(task: Task) -> int:
    """Feed the decoder the planned packets, known beforehand, and look at no frame."""
    wanted = set(task.wanted_ticks.tolist())
    with open_video(task.path) as (container, stream):
        shown = planned_reader.decoded_frames(container.demux(stream), stream.codec_context, task.runs, wanted)
        return sum(frame.pts in wanted for frame in shown)


def full_decode(task: Task) -> int:
    """What `ffmpeg -i video -f null -` does, on one thread."""
    with open_video(task.path) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def opencv_seek(task: Task) -> int:
    """The reference system's way: set the position for every frame."""
    capture = _capture(task)
    frames = []
    for number in task.frame_numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        ok, frame = capture.read()
        if ok:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return len(frames)


def opencv_sequential(task: Task) -> int:
    capture, wanted, frames = _capture(task), set(task.frame_numbers), []
    for number in range(max(wanted) + 1):
        if not capture.grab():
            break
        if number in wanted:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return len(frames)


def torchcodec(task: Task) -> int:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(task.path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return len(decoder.get_frames_at(indices=task.frame_numbers).data)


def decord(task: Task) -> int:
    from decord import VideoReader

    return len(VideoReader(task.path, num_threads=1).get_batch(task.frame_numbers).asnumpy())


def _capture(task: Task) -> Any:
    return cv2.VideoCapture(task.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


METHODS: dict[str, Callable[[Task], int]] = {
    "full decode": full_decode,
    "ours": ours,
    "ours, avoiding black": ours_avoiding_black,
    "floor": floor,
    "OpenCV seek": opencv_seek,
    "OpenCV sequential": opencv_sequential,
    "torchcodec": torchcodec,
    "decord": decord,
}
PEERS = ("torchcodec", "decord")
"""Methods whose packages are not in requirements.txt."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path(__file__).resolve().parents[1] / "examples" / "archive")
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where the clips are kept")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, of which the median is taken")
    parser.add_argument("--only", help="only clips whose name contains this")
    arguments = parser.parse_args()
    methods = [name for name in METHODS if name not in PEERS or importlib.util.find_spec(name) is not None]
    print(describe("av", "opencv-python-headless", "torch", "torchcodec", "decord"), "\n")
    print("CPU seconds of a full decode, and the ratio of each method to it\n")
    print("| clip | full decode | " + " | ".join(methods[1:]) + " | ours / floor | OpenCV seek / ours |")
    print("|---|" + "---|" * (len(methods) + 2))
    for clip in CLIPS:
        if arguments.only and arguments.only not in clip.name:
            continue
        seconds = measure(task_of(clip, make_clip(clip, arguments.archive, arguments.clips)), methods, arguments.rounds)
        full = seconds["full decode"]
        cells = [clip.name, f"{full:.2f} s", *(f"{seconds[name] / full:.2f}" for name in methods[1:])]
        cells += [f"{seconds['ours'] / seconds['floor']:.2f}", f"{seconds['OpenCV seek'] / seconds['ours']:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def measure(task: Task, methods: list[str], rounds: int) -> dict[str, float]:
    """Median CPU seconds (user and system, all threads) of each method, each in a process of its own,
    one at a time, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    os.environ["OMP_NUM_THREADS"] = "1"  # as the decoder's child process has it
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, spawn, keep_freed_memory)) for name in methods}
        for number in range(rounds + 1):
            for name, worker in workers.items():
                spent = worker.submit(cpu_seconds, name, task).result()
                if number > 0:  # the first round loads libraries and the file
                    seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def cpu_seconds(name: str, task: Task) -> float:
    cv2.setNumThreads(1)
    started = time.process_time()
    num_frames = METHODS[name](task)
    spent = time.process_time() - started
    if name != "full decode" and num_frames != len(task.frame_numbers):
        raise SystemExit(f"{name} gave {num_frames} of {len(task.frame_numbers)} frames of {task.path}")
    return spent


def task_of(clip: Clip, path: Path) -> Task:
    plan = SamplingPlan(num_frames=clip.num_frames, avoid_black=False)
    with open_video(str(path)) as (container, stream):
        index = packets.scan(container, stream)
    if index is None:
        raise SystemExit(f"{path}: its packets do not tell when frames are shown")
    times = np.sort(index.pts_ticks)
    numbers = sampling.on_screen_at_midpoints(times, int(times[0]), index.end_ticks, clip.num_frames)
    return Task(
        path=str(path),
        plan=plan,
        frame_numbers=numbers.tolist(),
        wanted_ticks=times[numbers],
        runs=packets.needed_ranges(index, times[numbers]),
    )


def make_clip(clip: Clip, archive: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    width, height = clip.size
    path = folder / f"{clip.duration_s}s_{width}x{height}_gop{clip.gop}_{clip.first}.mp4"
    if path.exists():
        return path
    temporary = path.with_suffix(".tmp.mp4")
    with av.open(str(temporary), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = BITS_PER_S[clip.size]
        stream.options = {"preset": "medium", "g": str(clip.gop)}
        for number, frame in zip(range(clip.duration_s * FPS), _frames(archive, clip.size, clip.first), strict=False):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, FPS), 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return temporary.rename(path)


def _frames(archive: Path, size: tuple[int, int], first: int) -> Iterator[Any]:
    """Frames of the archive's videos, classes in turn, over and over."""
    by_class: dict[str, list[Path]] = {}
    for path in sorted(archive.rglob("*.*")):
        if path.suffix[1:] in VIDEO_EXTENSIONS and "broken" not in str(path):
            by_class.setdefault(path.relative_to(archive).parts[0], []).append(path)
    if not by_class:
        raise SystemExit(f"--archive {archive}: holds no video")
    for number in itertools.count(first):
        for paths in by_class.values():
            with av.open(str(paths[number % len(paths)])) as container:
                for frame in container.decode(video=0):
                    yield frame.reformat(*size, "yuv420p")


if __name__ == "__main__":
    main()
