"""Time from the start of a job to its refusal of a wrong argument: wall-clock and CPU seconds of the whole process.

Each job is started with each kind of wrong argument that it can have. A refusal must have exit code 2 and one line of
text; anything else ends the script. The runs of all jobs are interleaved, so that a busy minute of the machine hits all
of them. CPU time (user and system) depends less on what else runs than wall-clock time. Ctrl-C ends the measurement and
prints what there is.

    python benchmarks/refusals.py [--repeats 5] [--job extract]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402

INPUTS = {
    "index": ["--input=films"],
    "plan": ["--input=films"],
    "quantize": ["--input=films", "--backbone=resnet50"],
    "extract": ["--manifest=list.csv"],
    "train": ["--features=features"],
    "tune": ["--features=features", "--space=space.yaml"],
    "classify": ["--input=films", "--ensemble=ensemble"],
    "evaluate": ["--predictions=predictions", "--manifest=list.csv"],
    "diff": ["--before=predictions", "--after=predictions"],
    "export": ["--run=predictions", "--to=fiftyone"],
    "audit": ["--run=predictions"],
    "serve": ["--ensemble=ensemble"],
}
"""Arguments of each job that name existing inputs. The first names the input that is replaced by a wrong one."""

OUTPUT_FILES = {"index": "new.parquet", "quantize": "new.safetensors", "plan": "new.yaml"}
"""Name of the output of each job whose output is a file; those of the others are directories."""

OTHERS = {"index": "mine.parquet", "quantize": "mine.safetensors", "plan": "mine.yaml"}
"""Name of a user's file in `films` that is given as the output of each job whose output is a file."""

WITHOUT_OUTPUT = ("audit", "serve")
"""Jobs that write no output."""

RAY_JOBS = ("extract", "train", "tune", "classify", "serve")
"""Jobs that connect to a Ray cluster or start one."""


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A job with one wrong argument."""

    kind: str
    arguments: list[str]
    address: str = "local"
    """value of the variable RAY_ADDRESS"""


def wrong_arguments(job: str) -> list[Wrong]:
    """Every kind of wrong argument that the job can have."""
    inputs, name = INPUTS[job], OUTPUT_FILES.get(job, "new")
    output_flag = "--write" if job == "plan" else "--output"
    output = [] if job in WITHOUT_OUTPUT else [f"{output_flag}={name}"]
    flag = inputs[0].split("=")[0]
    wrong_type = "films" if flag == "--manifest" else "list.csv"
    found = [
        Wrong(kind="input unreadable", arguments=[f"{flag}=loop", *inputs[1:], *output]),
        Wrong(kind="unknown flag", arguments=[*inputs, *output, "--colour=blue"]),
    ]
    if flag != "--input":
        found.append(Wrong(kind="file for directory", arguments=[f"{flag}={wrong_type}", *inputs[1:], *output]))
    if output:
        sources = [each.replace("=films", "=list.csv") for each in inputs]
        found += [
            Wrong(kind="output not writable", arguments=[*inputs, f"{output_flag}=/proc/vidclf/{name}"]),
            Wrong(kind="output below a file", arguments=[*inputs, f"{output_flag}=list.csv/{name}"]),
            Wrong(kind="output of others", arguments=[*sources, f"{output_flag}=films/{OTHERS.get(job, '')}"]),
        ]
    if job in RAY_JOBS:
        # Nothing listens on port 1; 192.0.2.0/24 is reserved for documentation (RFC 5737), so nothing answers there.
        found += [
            Wrong(kind="cluster refuses", arguments=[*inputs, *output], address="127.0.0.1:1"),
            Wrong(kind="cluster silent", arguments=[*inputs, *output], address="192.0.2.1:6379"),
        ]
    return found


def write_inputs(folder: Path) -> None:
    """Write the inputs that `INPUTS` names, empty but for their names, and a link `loop` that nobody can open."""
    for name in ("films", "features", "ensemble", "predictions"):
        (folder / name).mkdir()
    for name in ("a.mp4", *OTHERS.values()):
        (folder / "films" / name).write_bytes(b"")
    (folder / "list.csv").write_text("path\nfilms/a.mp4\n")
    (folder / "space.yaml").write_text("lr: {type: loguniform, lower: 0.001, upper: 0.01}\n")
    (folder / "loop").symlink_to(folder / "loop")


def measure(job: str, wrong: Wrong, folder: Path) -> tuple[float, float, str]:
    """Run the job; returns its wall-clock seconds, its CPU seconds and the text of its refusal."""
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *wrong.arguments]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": wrong.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 2 or len(text.splitlines()) != 1:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{text}")
    return wall_s, usage.ru_utime + usage.ru_stime, text.strip()


def main() -> None:
    """Measure all refusals and print one line per job and kind, then the slowest of each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each job and kind")
    parser.add_argument("--job", choices=sorted(INPUTS), help="measure this job only")
    arguments = parser.parse_args()
    print(describe("pyarrow", "ray"))
    cases = [(job, wrong) for job in INPUTS if arguments.job in (None, job) for wrong in wrong_arguments(job)]
    wall_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    cpu_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    texts: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        before = sorted(folder.rglob("*"))
        with suppress(KeyboardInterrupt):
            for job, wrong in cases * arguments.repeats:
                wall, cpu, texts[job, wrong.kind] = measure(job, wrong, folder)
                wall_s[job, wrong.kind].append(wall)
                cpu_s[job, wrong.kind].append(cpu)
        assert sorted(folder.rglob("*")) == before, "a refused job must leave nothing behind"
    for job, kind in texts:
        wall, cpu = statistics.median(wall_s[job, kind]), statistics.median(cpu_s[job, kind])
        least = f"least {min(wall_s[job, kind]):6.2f} s  {min(cpu_s[job, kind]):5.2f} s"
        print(f"{job:9} {kind:20} median wall {wall:6.2f} s  CPU {cpu:5.2f} s  {least}  {texts[job, kind]}")
    for job in dict.fromkeys(job for job, _ in texts):
        own = [kind for each, kind in texts if each == job and not kind.startswith("cluster")]
        wall, cpu = (max(statistics.median(seconds[job, kind]) for kind in own) for seconds in (wall_s, cpu_s))
        least_s = max(min(cpu_s[job, kind]) for kind in own)
        print(
            f"{job:9} slowest refusal without a cluster: wall {wall:.2f} s, CPU {cpu:.2f} s, least CPU {least_s:.2f} s"
        )


if __name__ == "__main__":
    main()
