"""CPU time to decode 73 sampled frames of a video: vidclf compared with other libraries.

    python benchmarks/decode.py [--archive DIR] [--rounds 5] [--clips DIR] [--only NAME]

The test clips are made from the videos of the archive: these are concatenated and encoded as H.264, with the default
settings of x264, a bit rate usual for streaming and 30 frames per second. The methods take turns, so that other work on
the machine affects all of them. Each figure is the median over the rounds. One row per clip; columns of the table:

- full decode: CPU seconds to decode all frames with PyAV on one thread. The next columns are ratios to this time;
- ours: vidclf without replacement of black frames; "ours, avoiding black": with it, which is the default of vidclf;
- floor: the decoder gets exactly the packets that the sampled frames need, and the frames are not converted;
- OpenCV seek, OpenCV sequential, torchcodec, decord: other ways to get the same frames. The last two are skipped unless
  installed (`pip install torchcodec decord`);
- ours / floor, OpenCV seek / ours: ratios of CPU seconds.

The methods stop at different points. Only `ours` scales frames to the input size of the CNN. The other libraries
stop at RGB frames of the size of the video. `full decode` and `floor` stop at the output of the decoder.
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
from vidclf.archive.video_names import VIDEO_EXTENSIONS
from vidclf.video import decode, packets, planned_reader, sampling
from vidclf.video.decoder_child import keep_freed_memory
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.packets import PacketRange
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import LocalFile, open_video

NUM_FRAMES = 73
FPS = 30
BITS_PER_S = {(640, 360): 730_000, (1280, 720): 3_000_000}
"""Bit rates by video size, as recommended for H.264 by the HLS Authoring Specification of Apple."""
RESNET50 = FrameTransform(resize_size=232, crop_size=224, interpolation="bilinear")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A test clip to encode, and the number of frames to sample from it."""

    name: str
    duration_s: int
    size: tuple[int, int]
    gop: int = 250
    """largest distance between two keyframes, in frames; 250 is the default of x264"""
    num_frames: int = NUM_FRAMES
    first: int = 0
    """index of the first video that is used of each class; other values give other content"""


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
    """A video file and the frames to decode, in the form that each method needs."""

    path: str
    plan: SamplingPlan
    frame_numbers: list[int]
    """numbers of the wanted frames, counted in order of display"""
    wanted_ticks: npt.NDArray[np.int64]
    runs: list[PacketRange]


def decode_with_vidclf(task: Task) -> int:
    """Decode with vidclf and scale the frames to the input size of ResNet-50; returns the number of frames."""
    return len(decode.decode_video(task.path, task.plan, RESNET50).frames_THWC)


def decode_with_vidclf_avoiding_black(task: Task) -> int:
    """Decode with vidclf and replace black frames by others, which is its default and takes additional frames."""
    return len(decode.decode_video(task.path, replace(task.plan, avoid_black=True), RESNET50).frames_THWC)


def floor(task: Task) -> int:
    """Decode only the packets that the wanted frames need, and convert none; returns how many frames were found."""
    wanted = set(task.wanted_ticks.tolist())
    with open_video(LocalFile(task.path)) as (container, stream):
        frames = planned_reader.decoded_frames(container.demux(stream), stream.codec_context, task.runs, wanted)
        return sum(frame.pts in wanted for frame in frames)


def full_decode(task: Task) -> int:
    """Decode all frames on one thread, like `ffmpeg -i video -f null -`; returns how many there are."""
    with open_video(LocalFile(task.path)) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def opencv_seek(task: Task) -> int:
    """Seek to each wanted frame with OpenCV, as the older system does whose checkpoints vidclf reads."""
    capture = _capture(task)
    frames = []
    for number in task.frame_numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        ok, frame = capture.read()
        if ok:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return len(frames)


def opencv_sequential(task: Task) -> int:
    """Decode from the start with OpenCV; convert only the wanted frames."""
    capture, wanted, frames = _capture(task), set(task.frame_numbers), []
    for number in range(max(wanted) + 1):
        if not capture.grab():
            break
        if number in wanted:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return len(frames)


def torchcodec(task: Task) -> int:
    """Decode the wanted frames with torchcodec on one thread, with exact seeking."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(task.path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return len(decoder.get_frames_at(indices=task.frame_numbers).data)


def decord(task: Task) -> int:
    """Decode the wanted frames with decord on one thread."""
    from decord import VideoReader

    return len(VideoReader(task.path, num_threads=1).get_batch(task.frame_numbers).asnumpy())


def _capture(task: Task) -> Any:
    return cv2.VideoCapture(task.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


METHODS: dict[str, Callable[[Task], int]] = {
    "full decode": full_decode,
    "ours": decode_with_vidclf,
    "ours, avoiding black": decode_with_vidclf_avoiding_black,
    "floor": floor,
    "OpenCV seek": opencv_seek,
    "OpenCV sequential": opencv_sequential,
    "torchcodec": torchcodec,
    "decord": decord,
}
PEERS = ("torchcodec", "decord")
"""Methods that need a package outside requirements.txt; skipped unless it is installed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "examples" / "archive",
        help="archive of videos to make the test clips from",
    )
    parser.add_argument(
        "--clips",
        type=Path,
        default=Path("benchmark_clips"),
        help="directory in which the test clips are stored and reused",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds in which the methods take turns; the median is printed"
    )
    parser.add_argument("--only", help="restrict the test clips to names that contain this text")
    arguments = parser.parse_args()
    methods = [name for name in METHODS if name not in PEERS or importlib.util.find_spec(name) is not None]
    print(describe("av", "opencv-python-headless", "torch", "torchcodec", "decord"), "\n")
    print("CPU seconds of a full decode; for each method its CPU seconds divided by those of the full decode\n")
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
    """Median CPU seconds per method: user and system time of all its threads.

    Each method has its own process. The methods run one at a time and take turns.
    """
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    os.environ["OMP_NUM_THREADS"] = "1"  # as in the decoder process of vidclf
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, spawn, keep_freed_memory)) for name in methods}
        for number in range(rounds + 1):
            for name, worker in workers.items():
                spent = worker.submit(cpu_seconds, name, task).result()
                if number > 0:  # the first round only loads libraries and caches the file
                    seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def cpu_seconds(name: str, task: Task) -> float:
    """CPU seconds that the method `name` takes in this process; exits if it returns another number of frames."""
    cv2.setNumThreads(1)
    started = time.process_time()
    num_frames = METHODS[name](task)
    spent = time.process_time() - started
    if name != "full decode" and num_frames != len(task.frame_numbers):
        raise SystemExit(f"{name} returned {num_frames} instead of {len(task.frame_numbers)} frames of {task.path}")
    return spent


def task_of(clip: Clip, path: Path) -> Task:
    """The frames to decode from the file `path`: those on screen at the midpoints of equal parts of the video."""
    plan = SamplingPlan(num_frames=clip.num_frames, avoid_black=False)
    with open_video(LocalFile(str(path))) as (container, stream):
        index = packets.index_of(packets.scan(container, stream))
    if index is None:
        raise SystemExit(f"{path}: its packets have no usable timestamps")
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
    """Path of the encoded test clip in `folder`; encodes it first unless the file exists."""
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
    """Endless frames for a test clip: one video of each class in turn, beginning with the video of index `first`."""
    by_class: dict[str, list[Path]] = {}
    for path in sorted(archive.rglob("*.*")):
        if path.suffix[1:] in VIDEO_EXTENSIONS and "broken" not in str(path):
            by_class.setdefault(path.relative_to(archive).parts[0], []).append(path)
    if not by_class:
        raise SystemExit(f"--archive {archive} contains no video")
    for number in itertools.count(first):
        for paths in by_class.values():
            with av.open(str(paths[number % len(paths)])) as container:
                for frame in container.decode(video=0):
                    yield frame.reformat(*size, "yuv420p")


if __name__ == "__main__":
    main()
