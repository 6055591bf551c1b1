"""A job's processes, Ray's included, watched from outside: CPU seconds by kind, and memory."""

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
"""What stands in a process's command line; the first that does names its kind, and `driver` is the root.

A worker of Ray's takes its operator's name when it becomes its actor, so that starting Python and Ray
counts as other."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Watch:
    """Samples the process `root` and its descendants while the body runs.

    What a process does in its last `interval_s` is missed, and with `memory` the sum of proportional
    set sizes (PSS: a page shared by several, such as the object store's, counts once) is kept at its
    peak. Use it before `root` starts anything, so that no child is orphaned unseen.
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
        self.peak_pss_bytes = 0
        self.peak_rss_bytes = 0
        """of the root alone"""
        self.peak_by_kind: Counter[str] = Counter()
        """PSS of each kind at the moment of the peak, in bytes"""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            self._sample()
            self._ended.wait(max(0.0, started + self._interval_s - time.monotonic()))

    def _sample(self) -> None:
        pss: Counter[str] = Counter()
        for pid in self._family():
            try:
                kind = self._kind(pid)
                self._add_cpu(pid, kind)
                if self._memory:
                    pss[kind] += _kib(pid, "smaps_rollup", "Pss:") * 1024
                if pid == self._root:
                    self.peak_rss_bytes = max(self.peak_rss_bytes, _kib(pid, "status", "VmHWM:") * 1024)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
        if pss.total() > self.peak_pss_bytes:
            self.peak_pss_bytes, self.peak_by_kind = pss.total(), pss

    def _family(self) -> list[int]:
        """The root and its descendants; who once was one stays one, so that orphans are not lost."""
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
        if pid == self._root:
            return "driver"
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return next((kind for part, kind in KINDS.items() if part in command), "other")

    def _add_cpu(self, pid: int, kind: str) -> None:
        fields = _stat(pid)
        ticks = int(fields[11]) + int(fields[12])
        process = (pid, fields[19])
        self.cpu_s[kind] += (ticks - self._ticks.get(process, 0)) / _TICKS_PER_S  # type: ignore[assignment]
        self._ticks[process] = ticks


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the third field on: the second, the name, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _kib(pid: int, file: str, field: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0  # a process that has ended and is not yet waited for has none
