"""Rounds of killing parts of a running extraction, and checks that every video is in exactly one place afterwards.

Every process that is inspected or killed is a descendant of a cluster or driver that was started here.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from ray.thirdparty_files import psutil  # Ray brings its own copy

from tests.support.jobs import job
from tests.support.process_facts import end_together, open_videos, parent, title

ROOT = Path(__file__).resolve().parents[2]
VICTIMS = ("driver", "decode worker", "decoder child", "CNN worker", "node")
ARGUMENTS = (
    *("--backbone", "efficientnet_lite0", "--num-frames", "4", "--rows-per-shard", "2"),
    *("--decode-workers", "3"),
)
LAYOUTS = {"in the same workers": (), "in separate workers": ("--cnn-workers", "2")}
"""Layouts of the pipeline: where decoding and the CNN run, with the arguments for it."""
FUSED = "MapBatches(DecodeAndEmbed)"
MOST_SUBMISSIONS = 12
JOB_TIMEOUT_S = 300.0


@dataclass
class Outcome:
    """Counts of one or several rounds."""

    kills: Counter[str] = field(default_factory=Counter)
    submissions: int = 0
    runs: int = 0
    """filled output directories; each is audited"""
    failures: list[str] = field(default_factory=list)
    """last lines of jobs that ended with an error although another process was killed"""
    num_videos: int = 0
    num_ok: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    audits_passed: int = 0
    races: int = 0
    """submissions that were started twice at once, so that one of the two was refused in one line"""

    def add(self, other: Outcome) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def table(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.quarantined.items()) or "none"
        rows = [
            *((f"kills: {victim}", self.kills[victim]) for victim in VICTIMS),
            ("runs", self.runs),
            ("resubmissions", self.submissions - self.runs),
            ("of these after an error of the job", len(self.failures)),
            ("videos", self.num_videos),
            ("ok", self.num_ok),
            ("quarantined", f"{self.quarantined.total()} ({reasons})"),
            ("double submissions, one refused", self.races),
            ("audits passed", f"{self.audits_passed} of {self.runs}"),
        ]
        return "\n".join(f"{name:<38}{value}" for name, value in rows)


class ChaosCluster:
    """Handle on a cluster of `tests.support.chaos_cluster`, which runs in its own process."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.chaos_cluster"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        answer = self._answer()
        self.address: str = answer["address"]
        self._raylets: set[int] = set(answer["raylets"])

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the cluster did not start: {Path(self._log.name).read_text()}"
        return dict(json.loads(line))

    def workers(self, operator: str) -> list[psutil.Process]:
        """The actor processes of a map operator, on all nodes."""
        return [process for process in self._descendants() if operator in title(process)]

    def children_of(self, workers: list[psutil.Process]) -> list[psutil.Process]:
        """The decoder processes of decode workers."""
        parents = {worker.pid for worker in workers}
        return [
            process
            for process in self._descendants()
            if parent(process) in parents and "vidclf.video.decoder_child" in title(process)
        ]

    def nodes_at_work(self) -> list[psutil.Process]:
        """Raylets of worker nodes on which an actor of the pipeline runs."""
        busy = {parent(worker) for worker in self.workers("MapWorker")}
        return [psutil.Process(pid) for pid in self._raylets & busy]

    def replace_node(self, raylet: psutil.Process) -> None:
        """Add a node in the place of one that was killed."""
        assert self._process.stdin is not None
        self._raylets.remove(raylet.pid)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._raylets.add(int(str(self._answer()["raylet"])))

    def _descendants(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def close(self) -> None:
        descendants = self._descendants()
        self._process.communicate(timeout=60)  # closes its input, which ends the cluster
        for process in psutil.wait_procs(descendants, timeout=10)[1]:
            process.kill()
        self._log.close()


class Driver:
    """A process that runs `jobs/extract.py` on the cluster."""

    def __init__(self, cluster: ChaosCluster, manifest: Path, output: Path, log: Path, layout: tuple[str, ...]) -> None:
        self._log = log
        self._output = output
        self._shards_before = self._num_shards()
        command = [sys.executable, str(ROOT / "jobs/extract.py"), "--manifest", str(manifest), "--output", str(output)]
        with log.open("w") as file:
            self.process = psutil.Popen(
                [*command, *ARGUMENTS, *layout],
                env={**os.environ, "RAY_ADDRESS": cluster.address},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.deadline = time.monotonic() + JOB_TIMEOUT_S

    def has_ended(self) -> bool:
        ended = self.process.poll() is not None
        assert ended or time.monotonic() < self.deadline, f"no end in {JOB_TIMEOUT_S:.0f} s: {self._log.read_text()}"
        return ended

    def _num_shards(self) -> int:
        return len(list(self._output.glob("part-*")))

    def has_written(self) -> bool:
        return self._num_shards() > self._shards_before

    def end(self) -> None:
        """Kill the driver if it still runs, so that none is left where a check failed."""
        if self.process.poll() is None:
            self.process.kill()

    def last_words(self) -> str:
        """The error that the job ended with, or else its last line."""
        lines = [line for line in self._log.read_text().splitlines() if "(raylet)" not in line] or ["nothing"]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        return (errors or lines)[-1]


@dataclass
class Round:
    """One kill of each kind of victim, in random order and at random moments, in as many jobs as needed."""

    cluster: ChaosCluster
    manifest: Path
    folder: Path
    rng: random.Random
    outcome: Outcome = field(default_factory=Outcome)
    is_race: bool = False
    """whether every job is submitted twice at once"""
    waits_for_work: bool = False
    """whether the next victim is killed only after the job has written a shard, or as soon as it exists"""

    def run(self) -> Outcome:
        self.waits_for_work = self.rng.random() < 0.7
        remaining = list(VICTIMS)
        self.rng.shuffle(remaining)
        print("kills in this round:", ", ".join(remaining), flush=True)
        while remaining:
            # A job may succeed before all victims have been killed. The remaining ones get another run.
            self.fill(self.folder / f"run-{self.outcome.runs}", remaining)
        return self.outcome

    def fill(self, output: Path, remaining: list[str]) -> None:
        """Submit a job until it exits with 0, kill the `remaining` victims meanwhile, and check its output."""
        self.outcome.runs += 1
        expected: set[str] = set()
        for submission in range(MOST_SUBMISSIONS):
            self.outcome.submissions += 1
            name = self.rng.choice(sorted(LAYOUTS))
            print(f"  {time.strftime('%X')} submitted: decoding and the CNN {name}", flush=True)
            log = output.with_name(f"{output.name}-{submission}.log")
            driver = Driver(self.cluster, self.manifest, output, log, LAYOUTS[name])
            if self.is_race:
                rival = Driver(self.cluster, self.manifest, output, log.with_suffix(".rival.log"), LAYOUTS[name])
                driver = self.holder(driver, rival)
            try:
                while not driver.has_ended():
                    if remaining and self.kill(remaining[0], driver, expected):
                        print(f"  {time.strftime('%X')} killed: {remaining[0]}", flush=True)
                        self.outcome.kills[remaining.pop(0)] += 1
                        self.waits_for_work = self.rng.random() < 0.7
                    else:
                        time.sleep(0.05)
            finally:
                driver.end()
            code = driver.process.wait()
            print(f"  {time.strftime('%X')} exit code {code}: {driver.last_words()}", flush=True)
            if code == 0:
                self.check(output, expected)
                return
            if code != -signal.SIGKILL:
                self.outcome.failures.append(driver.last_words())
        raise AssertionError(f"the job did not succeed in {MOST_SUBMISSIONS} submissions: {driver.last_words()}")

    def holder(self, first: Driver, second: Driver) -> Driver:
        """The one of two simultaneous submissions that runs. The other is refused in one line that names the first."""
        try:
            while not (first.has_ended() or second.has_ended()):
                time.sleep(0.05)
            refused, running = (first, second) if first.has_ended() else (second, first)
            words = refused.last_words()
            if refused.process.wait() == 0:
                return running  # it had done everything before the other one began
            print(f"  {time.strftime('%X')} two at once, one refused: {words}", flush=True)
            assert refused.process.wait() == 2, words
            assert f"(process {running.process.pid}, since " in words, words
        except BaseException:
            first.end()
            second.end()
            raise
        self.outcome.races += 1
        return running

    def kill(self, victim: str, driver: Driver, expected: set[str]) -> bool:
        """Wait for a random moment and kill a random victim.

        False where there is no victim, or where the job has ended. `expected` gets the videos that a killed decoder had
        open.
        """
        if not self.candidates(victim, driver) or (self.waits_for_work and not driver.has_written()):
            return False
        time.sleep(self.rng.uniform(0, 3 if victim != "driver" or self.waits_for_work else 12))
        candidates = self.candidates(victim, driver)
        if not candidates or driver.has_ended():
            return False
        process = self.rng.choice(sorted(candidates, key=lambda process: process.pid))
        try:
            if victim == "node":
                end_together([process, *process.children(recursive=True)])
            elif victim == "decoder child":
                process.suspend()
                opened = open_videos(process, self.manifest.parent)
                if not opened:
                    # Without an open file it is unknown which video this kill would cost.
                    process.resume()
                    return False
                process.kill()
                print(f"  it was decoding {', '.join(opened)}")
                expected |= set(opened)
            else:
                process.kill()
        except psutil.NoSuchProcess:
            return False
        was_running = driver.process.wait() == -signal.SIGKILL if victim == "driver" else not driver.has_ended()
        alive = psutil.wait_procs([process], timeout=10)[1]
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
        if victim == "node":
            self.cluster.replace_node(process)
        return was_running

    def candidates(self, victim: str, driver: Driver) -> list[psutil.Process]:
        """The running processes of a kind of victim."""
        match victim:
            case "driver":
                return [driver.process]
            case "decode worker":
                return self.decode_workers()
            case "CNN worker":
                return self.cluster.workers("MapBatches(EmbedVideos)") + self.cluster.workers(FUSED)
            case "decoder child":
                return self.cluster.children_of(self.decode_workers())
            case _:
                return self.cluster.nodes_at_work()

    def decode_workers(self) -> list[psutil.Process]:
        return self.cluster.workers("MapBatches(DecodeVideos)") + self.cluster.workers(FUSED)

    def check(self, output: Path, expected: set[str]) -> None:
        """Check that the audit passes, and that every video is ok except those that a killed decoder had open."""
        done = job("audit", "--run", output)
        print(done.stdout.strip())
        assert done.returncode == 0, done.stdout + done.stderr
        self.outcome.audits_passed += 1
        locations = pq.read_table(self.manifest)["video_uri"].to_pylist()
        ok = [uri for path in output.glob("part-*") for uri in pq.read_table(path)["video_uri"].to_pylist()]
        rejected = [row for path in output.glob("quarantine/part-*") for row in pq.read_table(path).to_pylist()]
        assert sorted(ok + [row["video_uri"] for row in rejected]) == sorted(locations)
        assert {row["reason"] for row in rejected} <= {"decoder_crashed"}
        assert {row["video_uri"] for row in rejected} <= expected
        self.outcome.num_videos += len(locations)
        self.outcome.num_ok += len(ok)
        self.outcome.quarantined.update(row["reason"] for row in rejected)
