"""Frames that vidclf, torchcodec, decord and OpenCV return for real files, held against the program ffmpeg.

    python benchmarks/frames.py --files DIR --ffmpeg FFMPEG [--frames 8] [--limit N] [--timeout 60] [--only vidclf]

FFMPEG is the program of an FFmpeg of its own, such as the one that `pip install imageio-ffmpeg` brings. It decodes each
video below DIR from its first to its last frame; that is the reference. The methods are then asked for the frames that
are on screen in the middle of equal parts of the video: the other libraries by the numbers of the frames, vidclf by its
sampling plan. A frame is right if no other frame of the reference resembles it clearly more than the expected one. Of
vidclf, the expected frame is the one at the time that vidclf states.

HD without a colour tag is converted by BT.709 for the reference, as players do. HDR videos are compared at equal
contrast, because ffmpeg does not map them to SDR, and every program that does has a curve of its own.

Every method runs in a process of its own, with a time limit per file, because decoders crash and hang. A library that
is not installed is named as not installed. One row per method; columns of the table:

- all right: files of which the method returned every expected frame;
- some wrong: files with another frame among those returned, or with fewer frames;
- refused: files for which the method raised an error, or vidclf gave a reject reason;
- crashed, too slow: files that ended the method's process, or took more than the time limit;
- CPU s: user and system time of the method over all files that it did not crash on;
- difference: grey levels (of 255) between the returned frame that differs most and the expected one, over the SDR files
  that are all right: median and 95th percentile.

The files that vidclf did not get all right are listed below the table, with what happened.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.archive.video_names import VIDEO_EXTENSIONS, extension
from vidclf.video import sampling
from vidclf.video.decode import decode_video
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

SIDE = 32
"""Width and height in pixels of the grey pictures by which frames are compared."""

CLEARLY = 0.75
"""Grey levels (of 255, mean over the picture) by which a frame must resemble another one more to count as that one."""

UNLIKE = 40.0
"""Grey levels of difference from which a frame is not the expected one, even if no other frame resembles it more.

Decoders differ by up to 8 levels in colour, and tone mapping of HDR changes a picture by more.
"""

HDR_CONTRAST = 50.0
"""Standard deviation in grey levels to which the pictures of an HDR video are brought before they are compared."""

RAW_FORMATS = "h264|hevc|mpegvideo|m4v|obu|av1"
"""Formats, by their FFmpeg names, that are nothing but the packets of a video, without times."""

Thumbnails = npt.NDArray[np.float32]
"""Grey pictures, [N, SIDE, SIDE]."""


@dataclass(frozen=True)
class Reference:
    """All frames of a video as ffmpeg decodes them."""

    thumbnails: Thumbnails
    times_s: npt.NDArray[np.float64]
    """time of each frame in seconds after the first one, in order of display"""
    has_times: bool = True
    """whether the file gives the times; for a raw stream, each program assumes a frame rate of its own"""
    last_s: float | None = None
    """time for which the last frame is shown; None if it is not known"""
    is_hdr: bool = False

    def expected(self, num_frames: int) -> list[int]:
        """Numbers of the frames on screen in the middle of `num_frames` equal parts of the video."""
        ticks = np.round(self.times_s * 1_000_000).astype(np.int64)
        step = int(np.median(np.diff(ticks))) if len(ticks) > 1 else 1
        if self.last_s is not None:
            step = round(self.last_s * 1_000_000)
        return [int(i) for i in sampling.on_screen_at_midpoints(ticks, 0, int(ticks[-1]) + max(step, 1), num_frames)]

    def at(self, time_s: float) -> int:
        """Number of the frame whose time is nearest to `time_s`."""
        return int(np.abs(self.times_s - time_s).argmin())


@dataclass(frozen=True)
class Answer:
    """Frames that a method returned for a video, as grey pictures, and the CPU seconds that it took."""

    thumbnails: list[npt.NDArray[np.float32]]
    times_s: list[float] | None
    """time that the method states for each frame; None if it was asked for frames by their numbers"""
    cpu_s: float


@dataclass
class Score:
    """Number of files per outcome of one method."""

    outcomes: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    differences: list[float] = field(default_factory=list)
    """largest difference of a returned frame to the expected one in grey levels, per SDR video that is all right"""


def thumbnail(rgb_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Grey picture of SIDE × SIDE pixels of an RGB frame, each pixel the mean of an area."""
    small = cv2.resize(np.ascontiguousarray(rgb_HWC), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def ours(path: str, numbers: list[int], num_frames: int) -> tuple[list[Any], list[float] | None]:
    """Decode with vidclf by a plan of `num_frames` frames; one that is on screen at two of its times comes once."""
    plan = SamplingPlan(num_frames=num_frames, avoid_black=False)
    video = decode_video(path, plan, lambda frame: thumbnail(frame).astype(np.uint8)[:, :, None])
    return [frame[:, :, 0].astype(np.float32) for frame in video.frames_THWC], video.pts_s.tolist()


def torchcodec(path: str, numbers: list[int], num_frames: int) -> tuple[list[Any], list[float] | None]:
    """Decode the frames `numbers` with torchcodec on one thread, with exact seeking."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return [thumbnail(frame.numpy()) for frame in decoder.get_frames_at(indices=numbers).data], None


def decord(path: str, numbers: list[int], num_frames: int) -> tuple[list[Any], list[float] | None]:
    """Decode the frames `numbers` with decord on one thread."""
    from decord import VideoReader

    return [thumbnail(frame) for frame in VideoReader(path, num_threads=1).get_batch(numbers).asnumpy()], None


def opencv(path: str, numbers: list[int], num_frames: int) -> tuple[list[Any], list[float] | None]:
    """Seek to each of the frames `numbers` with OpenCV."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    for number in numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        is_read, frame = capture.read()
        if is_read:
            frames.append(thumbnail(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8)))
    if not frames:
        raise ValueError("OpenCV returned no frame")
    return frames, None


METHODS: dict[str, Callable[[str, list[int], int], tuple[list[Any], list[float] | None]]] = {
    "vidclf": ours,
    "torchcodec": torchcodec,
    "decord": decord,
    "OpenCV": opencv,
}
PEERS = ("torchcodec", "decord")
"""Methods that need a package outside requirements.txt."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True, help="directory of video files")
    parser.add_argument("--ffmpeg", required=True, help="path of the program ffmpeg that decodes the reference")
    parser.add_argument("--frames", type=int, default=8, help="number of frames per file")
    parser.add_argument("--limit", type=int, help="use at most this number of files, evenly spread over the directory")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per file and method")
    parser.add_argument("--only", choices=list(METHODS), nargs="+", default=list(METHODS), help="methods to run")
    arguments = parser.parse_args()
    paths = [path for path in sorted(arguments.files.rglob("*")) if path.is_file() and is_video(path)]
    if not paths:
        raise SystemExit(f"--files {arguments.files} contains no video")
    if arguments.limit and arguments.limit < len(paths):
        paths = [paths[number * len(paths) // arguments.limit] for number in range(arguments.limit)]
    wanted = [name for name in METHODS if name in arguments.only]
    installed = [name for name in wanted if name not in PEERS or importlib.util.find_spec(name) is not None]
    print(describe("av", "opencv-python-headless", "torchcodec", "decord"), "\n")
    workers = {name: Worker(name, arguments.timeout) for name in installed}
    scores = {name: Score() for name in installed}
    not_right: list[str] = []
    num_whole = 0
    for path in paths:
        reference, complaint = decode_reference(arguments.ffmpeg, path)
        num_whole += reference is not None and not complaint
        numbers = reference.expected(arguments.frames) if reference is not None else list(range(arguments.frames))
        for name, worker in workers.items():
            answer = worker.ask(str(path), numbers, arguments.frames)
            outcome, detail, difference = judge(reference, numbers, answer)
            scores[name].outcomes[outcome] += 1
            if outcome == "all right" and reference is not None and not reference.is_hdr:
                scores[name].differences.append(difference)
            scores[name].cpu_s += answer.cpu_s if isinstance(answer, Answer) else 0.0
            if name == "vidclf" and outcome not in ("all right", "no reference"):
                words = f"; ffmpeg complains: {complaint}" if complaint else ""
                not_right.append(f"{path.relative_to(arguments.files)}: {outcome}, {detail}{words}")
    for worker in workers.values():
        worker.stop()
    print(f"{len(paths)} files; ffmpeg decodes {num_whole} of them without complaint\n")
    print_table(scores, [name for name in wanted if name not in installed])
    if "vidclf" in installed:
        print("\nNot all right with vidclf:" if not_right else "\nAll right with vidclf.")
    for line in not_right:
        print(f"- {line}")


OUTCOMES = ("all right", "some wrong", "refused", "crashed", "too slow", "no reference")


def print_table(scores: dict[str, Score], missing: list[str]) -> None:
    """Print the number of files per method and outcome as a Markdown table."""
    print("| method | " + " | ".join(OUTCOMES) + " | CPU s | difference |\n|---|" + "---|" * (len(OUTCOMES) + 2))
    for name, score in scores.items():
        cells = [str(score.outcomes[outcome]) for outcome in OUTCOMES]
        median, high = np.percentile(score.differences or [0.0], [50, 95])
        print(f"| {name} | " + " | ".join(cells) + f" | {score.cpu_s:.1f} | {median:.2f}, {high:.2f} |")
    for name in missing:
        print(f"| {name} | not installed |" + " |" * (len(OUTCOMES) + 1))


def is_video(path: Path) -> bool:
    """Return whether a file has the extension of a video; a raw dump or a list has none."""
    return extension(path.name) in VIDEO_EXTENSIONS


def decode_reference(ffmpeg: str, path: Path) -> tuple[Reference | None, str]:
    """Decode all frames of a video with ffmpeg; returns None without frames, and its first complaint or ''."""
    facts = _colour_facts(ffmpeg, path)
    matrix = "scale=in_color_matrix=bt709," if facts.is_untagged_hd else ""
    command = [ffmpeg, "-hide_banner", "-nostdin", "-threads", "1", "-i", str(path), "-an", "-sn", "-dn", "-vf"]
    # Averaging comes after the conversion to RGB, as in every method: colours that RGB clips would differ otherwise.
    command += [f"showinfo=checksum=0,{matrix}format=rgb24,scale={SIDE}:{SIDE}:flags=area"]
    command += ["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    finished = subprocess.run(command, capture_output=True, check=False)
    log = finished.stderr.decode(errors="replace")
    times = [float(found) for found in re.findall(r"pts_time:(-?[\d.]+(?:e[-+]\d+)?)", log)]
    frames = np.frombuffer(finished.stdout, np.uint8)
    frames = frames[: len(frames) // (SIDE * SIDE * 3) * SIDE * SIDE * 3].reshape(-1, SIDE, SIDE, 3)
    complaint = re.search(r"^(?:.*(?:[Ee]rror|[Ii]nvalid|corrupt|truncat|missing|concealing).*)$", log, re.MULTILINE)
    words = complaint.group(0).strip() if complaint else ""
    if not len(frames):
        return None, words
    if len(times) != len(frames) or (np.diff(times) <= 0).any():
        rate = re.search(r"([\d.]+) fps", log)
        times = (np.arange(len(frames)) / (float(rate.group(1)) if rate else 25.0)).tolist()
    grey = np.stack([thumbnail(frame) for frame in frames])
    is_raw = re.search(rf"^Input #0, (?:{RAW_FORMATS}), from", log, re.MULTILINE) is not None
    durations = re.findall(r" duration_time:([\d.]+)", log)
    last_s = float(durations[-1]) if len(durations) == len(frames) and not is_raw else None
    return Reference(grey, np.array(times) - times[0], not is_raw, last_s, facts.is_hdr), words


@dataclass(frozen=True)
class ColourFacts:
    """What a video states about its colours."""

    is_untagged_hd: bool
    """whether it is YUV of HD size without a matrix, which players take for BT.709"""
    is_hdr: bool


def _colour_facts(ffmpeg: str, path: Path) -> ColourFacts:
    """Facts about the stream that ffmpeg chooses by itself, by its first frame."""
    command = [ffmpeg, "-hide_banner", "-nostdin", "-i", str(path), "-vf", "showinfo=checksum=0", "-frames:v", "1"]
    finished = subprocess.run([*command, "-f", "null", "-"], capture_output=True, check=False)
    log = finished.stderr.decode(errors="replace")
    size = re.search(r" fmt:(?:yuv|[uv]y|y[uv]|nv|p[024]|[vxy]\d)\S* .*? s:(\d+)x(\d+) ", log)
    is_hd = size is not None and (int(size.group(1)) >= 1280 or int(size.group(2)) > 576)
    is_hdr = re.search(r" color_trc:(?:smpte2084|arib-std-b67)", log) is not None
    return ColourFacts(is_hd and not is_hdr and " color_space:unknown" in log, is_hdr)


def judge(reference: Reference | None, numbers: list[int], answer: Answer | str) -> tuple[str, str, float]:
    """Outcome of a method for one file, one of `OUTCOMES`; details in words; largest difference in grey levels."""
    if reference is None:
        return "no reference", "", 0.0
    if isinstance(answer, str):
        return (answer, "", 0.0) if answer in OUTCOMES else ("refused", answer, 0.0)
    if len(answer.thumbnails) < len(numbers):
        return "some wrong", f"{len(answer.thumbnails)} frames instead of {len(numbers)}", 0.0
    expected = numbers
    if answer.times_s is not None and reference.has_times:
        expected = [reference.at(time_s) for time_s in answer.times_s]
    if any(abs(found - number) > 1 for found, number in zip(expected, numbers, strict=False)):
        return "some wrong", f"frames {expected} instead of {numbers}", 0.0
    pictures = with_contrast(reference.thumbnails) if reference.is_hdr else reference.thumbnails
    answers = [with_contrast(picture) if reference.is_hdr else picture for picture in answer.thumbnails]
    pairs = list(zip(expected, answers, strict=False))
    wrong = [number for number, picture in pairs if not is_right(pictures, number, picture)]
    if wrong:
        return "some wrong", f"other pictures for the frames {wrong}", 0.0
    return "all right", "", max(float(np.abs(pictures[number] - picture).mean()) for number, picture in pairs)


def with_contrast(pictures: Thumbnails) -> Thumbnails:
    """Pictures [..., SIDE, SIDE] with mean 0 and a standard deviation of HDR_CONTRAST; a flat one stays flat."""
    centred = pictures - pictures.mean(axis=(-2, -1), keepdims=True)
    return np.asarray(centred * HDR_CONTRAST / np.maximum(centred.std(axis=(-2, -1), keepdims=True), 1.0), np.float32)


def is_right(reference: Thumbnails, number: int, picture: npt.NDArray[np.float32]) -> bool:
    """Return whether `picture` is frame `number` of the reference, judged by its resemblance to all frames."""
    differences = np.abs(reference - picture).mean(axis=(1, 2))
    return bool(differences[number] <= min(differences.min() + CLEARLY, UNLIKE))


class Worker:
    """Process in which one method decodes one file after another; it is replaced if it crashes or hangs."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, path: str, numbers: list[int], num_frames: int) -> Answer | str:
        """Frames of a file; or "crashed", "too slow", or the text of an error.

        `numbers` are those of the frames; `num_frames` is how many were asked for, before repeated ones were dropped.
        """
        if self._connection is None:
            self._connection = self._start()
        self._connection.send((path, numbers, num_frames))
        try:
            if self._connection.poll(self._timeout_s):
                answer: Answer | str = self._connection.recv()
                return answer
            outcome = "too slow"
        except (EOFError, ConnectionError):
            outcome = "crashed"
        self.stop()
        return outcome

    def stop(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._connection = None

    def _start(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")
        connection, other_end = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(self._name, other_end), daemon=True)
        self._process.start()
        other_end.close()
        connection.poll(self._timeout_s)
        connection.recv()
        return connection


def serve(name: str, connection: Connection) -> None:
    """Main loop of a worker: decode the files that are sent, and send back an `Answer` or the text of an error."""
    import av

    av.logging.set_level(av.logging.PANIC)
    cv2.setNumThreads(1)
    if name in PEERS:
        importlib.import_module(name)
    connection.send("ready")
    while True:
        try:
            path, numbers, num_frames = connection.recv()
        except EOFError:
            return
        started = time.process_time()
        try:
            thumbnails, times_s = METHODS[name](path, numbers, num_frames)
            connection.send(Answer(thumbnails, times_s, time.process_time() - started))
        except VideoRejected as rejected:
            connection.send(f"{rejected.reason.value}: {rejected.message}")
        except Exception as error:  # any error of a library counts as its refusal of the file
            connection.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


if __name__ == "__main__":
    main()
