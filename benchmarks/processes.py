"""Measurement of a running job from outside: CPU seconds and memory of its processes, by kind of process.

Used by other benchmark scripts. Linux only: all figures are read from /proc.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

KINDS = {
    "MapBatches(DecodeAndEmbed)": "workers",
    "MapBatches(DecodeVideos)": "decode workers",
    "vidclf.video.decoder_child": "decoder children",
    "MapBatches(EmbedVideos)": "CNN workers",
    "raylet/raylet": "raylet, GCS, agents",
    "gcs_server": "raylet, GCS, agents",
    "Agent": "raylet, GCS, agents",
    "monitor": "raylet, GCS, agents",
    "dashboard": "raylet, GCS, agents",
    "runtime_env": "raylet, GCS, agents",
    "ray::": "other Ray workers (read, write, not yet assigned)",
    "_worker.py": "other Ray workers (read, write, not yet assigned)",
}
"""Kind of a process by a part of its command line. The first entry whose key occurs in the command line decides.

The watched root process has the kind `driver`. A Ray worker process carries the name of its operator only after it has
become the actor of that operator. Until then its CPU time (start of Python and Ray) counts as "other Ray workers".
"""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
"""Clock ticks per second, the unit of CPU time in /proc."""


class Watch:
    """Context manager that samples the process `root` and its descendants every `interval_s` seconds.

    CPU time that a process uses after its last sample is missed. With `memory`, the peak of the summed proportional set
    sizes is recorded (PSS: a page shared by several processes, for example in Ray's object store, counts once). Enter
    the context before `root` starts child processes: a process whose parent ends before the first sample is not found.
    """

    def __init__(self, root: int, interval_s: float = 0.2, memory: bool = False) -> None:
        self._root = root
        self._interval_s = interval_s
        self._memory = memory
        self._known: dict[int, str] = {}
        self._ticks: dict[tuple[int, str], int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.cpu_s: Counter[str] = Counter()
        """CPU seconds so far, by kind of process"""
        self.peak_pss_bytes = 0
        """highest PSS of all processes together; 0 without `memory`"""
        self.peak_unbacked_bytes = 0
        """highest memory of all processes together that no file on a disk backs: anonymous and shared memory, by PSS; 0
        without `memory`"""
        self.peak_rss_bytes = 0
        """highest resident memory (RSS) of the root process alone"""
        self.peak_by_kind: Counter[str] = Counter()
        """PSS in bytes by kind of process, at the moment of `peak_pss_bytes`"""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        """Body of the sampling thread."""
        while not self._ended.is_set():
            started = time.monotonic()
            self._sample()
            self._ended.wait(max(0.0, started + self._interval_s - time.monotonic()))

    def _sample(self) -> None:
        """Add the CPU time since the last sample and update the memory peaks."""
        pss: Counter[str] = Counter()
        unbacked = 0
        for pid in self._family():
            try:
                kind = self._kind(pid)
                self._add_cpu(pid, kind)
                if self._memory:
                    pss[kind] += _kib(pid, "smaps_rollup", "Pss:") * 1024
                    unbacked += sum(_kib(pid, "smaps_rollup", field) for field in ("Pss_Anon:", "Pss_Shmem:")) * 1024
                if pid == self._root:
                    self.peak_rss_bytes = max(self.peak_rss_bytes, _kib(pid, "status", "VmHWM:") * 1024)
            except (FileNotFoundError, ProcessLookupError):
                continue  # the process has ended meanwhile
        self.peak_unbacked_bytes = max(self.peak_unbacked_bytes, unbacked)
        if pss.total() > self.peak_pss_bytes:
            self.peak_pss_bytes, self.peak_by_kind = pss.total(), pss

    def _family(self) -> list[int]:
        """Process ids of the root and its descendants. Descendants found earlier are kept even if their parent has
        ended."""
        parents: dict[int, int] = {}
        starts: dict[int, str] = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                fields = _stat(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry)], starts[int(entry)] = int(fields[1]), fields[19]
        known = {pid: start for pid, start in self._known.items() if starts.get(pid) == start}
        if self._root in parents:
            known[self._root] = starts[self._root]
        grown = True
        while grown:
            new = {pid: starts[pid] for pid, parent in parents.items() if parent in known and pid not in known}
            known |= new
            grown = bool(new)
        self._known = known
        return list(known)

    def _kind(self, pid: int) -> str:
        """Kind of a process: `driver` for the root, else by `KINDS`, else "other"."""
        if pid == self._root:
            return "driver"
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return next((kind for part, kind in KINDS.items() if part in command), "other")

    def _add_cpu(self, pid: int, kind: str) -> None:
        """Add to `cpu_s` the CPU time that a process has used since its last sample."""
        fields = _stat(pid)
        ticks = int(fields[11]) + int(fields[12])
        process = (pid, fields[19])
        self.cpu_s[kind] += (ticks - self._ticks.get(process, 0)) / _TICKS_PER_S  # type: ignore[assignment]
        self._ticks[process] = ticks


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third one on. The first two are dropped because the second, the name, may
    contain spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _kib(pid: int, file: str, field: str) -> int:
    """Value in KiB of a field in /proc/PID/FILE; 0 if the field is missing."""
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0  # a zombie (ended, but not yet waited for by its parent) has no such field
