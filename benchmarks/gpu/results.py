"""Figures of a run on a GPU, written as they come: one JSON object per line, with the card's name."""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch


def parser(text: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, required=True, help="file that the figures are added to")
    made.add_argument("--small", action="store_true", help="a rehearsal on the CPU: sizes without meaning")
    return made


def card() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none (CPU rehearsal)"


def add(path: Path, name: str, **values: Any) -> None:
    """Write a figure, and print it."""
    line = json.dumps({"name": name, "card": card(), **values})
    with path.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


class GpuWatch:
    """Samples of `nvidia-smi` while the body runs: time since its start, busy share of the GPU, memory in MiB."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []

    def __enter__(self) -> GpuWatch:
        query = [
            "nvidia-smi",
            "--query-gpu=utilization.gpu,memory.used",
            "--format=csv,noheader,nounits",
            "-lms",
            "200",
        ]
        try:
            self._process: subprocess.Popen[str] | None = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            self._process = None
            return self
        started = time.monotonic()

        def read() -> None:
            assert self._process is not None
            assert self._process.stdout is not None
            for line in self._process.stdout:
                busy, memory = line.split(",")
                self.samples.append((time.monotonic() - started, float(busy) / 100, float(memory)))

        self._thread = threading.Thread(target=read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._thread.join()

    def figures(self) -> dict[str, float | None]:
        """Busy share over the middle 80 % of the time in which the GPU was used at all, and the peak of memory."""
        used = [sample for sample in self.samples if sample[1] > 0]
        if not used:
            return {"gpu_busy": None, "gpu_memory_mib": None}
        first, last = used[0][0], used[-1][0]
        margin = 0.1 * (last - first)
        middle = [busy for at, busy, _ in self.samples if first + margin <= at <= last - margin]
        busy = sum(middle) / len(middle) if middle else used[0][1]
        return {"gpu_busy": round(busy, 3), "gpu_memory_mib": max(memory for _, _, memory in self.samples)}
