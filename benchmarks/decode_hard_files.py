"""CPU seconds of decoding frames of files that are hard to plan: AV1, field pictures, intra refresh, files with faults.

    python benchmarks/decode_hard_files.py --ffmpeg FFMPEG [--checkout DIR] [--seconds 60] [--frames 8] [--rounds 5]

FFMPEG is the program of an FFmpeg, such as the one that `pip install imageio-ffmpeg` brings; it makes the files. DIR is
a checkout of another version of vidclf. Each measurement runs in a process of its own, in turn with the others, and
counts CPU seconds from opening the file to the last frame. The table has the medians. "full decode" is that of all
frames with PyAV on one thread, without conversion.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from tests.support.field_pictures import write_field_pictures

HERE = Path(__file__).resolve().parents[1]
SOURCE = "testsrc2=s=1280x720:r=25,noise=alls=12:allf=t"
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "3M"]
FIELD_SIDE = 320

FULL_DECODE = """
import sys, time, av
av.logging.set_level(av.logging.PANIC)
started = time.process_time()
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    num_frames = 0
    for packet in container.demux(stream):
        try:
            num_frames += len(packet.decode())
        except av.error.InvalidDataError:
            pass
print(time.process_time() - started, num_frames)
"""
"""Program that prints the CPU seconds of a full decode of a file, and the number of frames."""

VIDCLF = """
import sys, time
sys.path.insert(0, sys.argv[2])
import vidclf
assert vidclf.__file__.startswith(sys.argv[2]), vidclf.__file__
try:
    from vidclf.video.decode import decode_video
    from vidclf.video.sampling import SamplingPlan
except ImportError:  # versions before the packages were divided anew
    from vidclf.archive.decode import decode_video
    from vidclf.archive.sampling import SamplingPlan
import av
av.logging.set_level(av.logging.PANIC)
plan = SamplingPlan(num_frames=int(sys.argv[3]))
started = time.process_time()
video = decode_video(sys.argv[1], plan, lambda frame: frame[::8, ::8].copy())
print(time.process_time() - started, len(video.pts_s))
"""
"""Program that prints the CPU seconds in which the vidclf of a checkout decodes frames of a file, and their number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ffmpeg", required=True, help="path of the program ffmpeg that makes the files")
    parser.add_argument("--checkout", type=Path, help="directory of another version of vidclf")
    parser.add_argument("--seconds", type=int, default=60, help="length of the files in seconds")
    parser.add_argument("--frames", type=int, default=8, help="number of frames per file")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each kind")
    parser.add_argument("--only", nargs="*", help="names of files; all of them by default")
    arguments = parser.parse_args()
    print(describe("av"), "\n")
    print("| file | frames | full decode, CPU s | vidclf | of a full decode | other version | of the other version |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name, make in FILES.items():
            if arguments.only and name not in arguments.only:
                continue
            path = make(Path(directory), arguments.ffmpeg, arguments.seconds)
            print(row(name, path, arguments.checkout, arguments.frames, arguments.rounds), flush=True)
            path.unlink()


def row(name: str, path: Path, checkout: Path | None, num_frames: int, num_rounds: int) -> str:
    """Measure a file and return its row of the table."""
    checkouts = [HERE] if checkout is None else [HERE, checkout.resolve()]
    full_s: list[float] = []
    ours_s: list[list[float]] = [[] for _ in checkouts]
    all_frames = 0
    for _ in range(num_rounds):
        seconds, all_frames = measured(FULL_DECODE, str(path), cwd=HERE)
        full_s.append(seconds)
        for directory, measurements in zip(checkouts, ours_s, strict=True):
            seconds, _ = measured(VIDCLF, str(path), str(directory), str(num_frames), cwd=directory)
            measurements.append(seconds)
    full, ours = median(full_s), median(ours_s[0])
    cells = [name, str(all_frames), f"{full:.2f}", f"{ours:.2f}", f"{ours / full:.2f}"]
    if checkout is not None:
        other = median(ours_s[1])
        cells += [f"{other:.2f}", f"{ours / other:.2f}"]
    else:
        cells += ["", ""]
    return "| " + " | ".join(cells) + " |"


def measured(program: str, *arguments: str, cwd: Path) -> tuple[float, int]:
    """Run a program in a process of its own; returns the CPU seconds and the number of frames that it prints."""
    command = [sys.executable, "-c", program, *arguments]
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{arguments}: {finished.stderr.strip().splitlines()[-1]}")
    seconds, number = finished.stdout.split()[-2:]
    return float(seconds), int(number)


def encoded(path: Path, ffmpeg: str, seconds: int, *options: str) -> Path:
    """Encode a synthetic video with ffmpeg."""
    command = [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", f"{SOURCE},trim=end={seconds}"]
    subprocess.run([*command, *options, str(path)], check=True, capture_output=True)
    return path


def av1(directory: Path, ffmpeg: str, seconds: int) -> Path:
    return encoded(directory / "a.mp4", ffmpeg, seconds, "-c:v", "libsvtav1", "-preset", "12", "-g", "60")


def field_pictures(directory: Path, ffmpeg: str, seconds: int) -> Path:
    return write_field_pictures(
        directory / "a.ts", 25 * seconds, fps=25, gop=50, is_reordered=True, fields_per_packet=2, side=FIELD_SIDE
    )


def intra_refresh(directory: Path, ffmpeg: str, seconds: int) -> Path:
    refresh = "intra-refresh=1:keyint=50:scenecut=0"
    return encoded(directory / "a.ts", ffmpeg, seconds, *X264, "-x264-params", refresh)


def reordered_avi(directory: Path, ffmpeg: str, seconds: int) -> Path:
    return encoded(directory / "a.avi", ffmpeg, seconds, *X264, "-bf", "2")


def cut_avi(directory: Path, ffmpeg: str, seconds: int) -> Path:
    path = reordered_avi(directory, ffmpeg, seconds)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    return path


def damaged_mp4(directory: Path, ffmpeg: str, seconds: int, place: float = 0.5) -> Path:
    """Make an MP4 with zeros at a place between 0 (begin) and 1 (end), as a download leaves them."""
    path = encoded(directory / "a.mp4", ffmpeg, seconds, *X264, "-g", "50")
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 50_000] = bytes(50_000)
    path.write_bytes(content)
    return path


def late_damaged_mp4(directory: Path, ffmpeg: str, seconds: int) -> Path:
    """Make an MP4 with zeros shortly before the last of eight evenly spread frames, which depends on them."""
    return damaged_mp4(directory, ffmpeg, seconds, 15 / 16 - 0.02)


def false_keyframes(directory: Path, ffmpeg: str, seconds: int) -> Path:
    """Make an MPEG-4 video in AVI whose index calls every frame a keyframe."""
    path = encoded(directory / "a.avi", ffmpeg, seconds, "-c:v", "mpeg4", "-q:v", "6", "-g", "10000")
    content = bytearray(path.read_bytes())
    index = content.rindex(b"idx1")
    for entry in range(index + 8, len(content) - 15, 16):
        content[entry + 4] |= 0x10  # AVIIF_KEYFRAME
    path.write_bytes(content)
    return path


def joined_vob(directory: Path, ffmpeg: str, seconds: int) -> Path:
    """Make a program stream of two recordings, the second of which begins with sound of its own."""
    codec = ["-c:v", "mpeg2video", "-b:v", "4M", "-g", "15", "-bf", "2", "-f", "vob"]
    parts = [
        encoded(directory / "a.vob", ffmpeg, seconds // 2, *codec),
        encoded(directory / "b.vob", ffmpeg, seconds // 2, *codec),
    ]
    path = directory / "joined.vob"
    path.write_bytes(b"".join(part.read_bytes().removesuffix(b"\0\0\1\xb9") for part in parts))
    for part in parts:
        part.unlink()
    return path


FILES: dict[str, Callable[[Path, str, int], Path]] = {
    "AV1, MP4": av1,
    "H.264 field pictures, TS": field_pictures,
    "H.264 intra refresh, TS": intra_refresh,
    "H.264 with B-frames, AVI": reordered_avi,
    "the same, cut": cut_avi,
    "MPEG-4, false keyframes, AVI": false_keyframes,
    "H.264 with a hole, MP4": damaged_mp4,
    "H.264 with a late hole, MP4": late_damaged_mp4,
    "MPEG-2, two recordings, VOB": joined_vob,
}
"""Files by name, with the function that makes each in a directory."""


if __name__ == "__main__":
    main()
