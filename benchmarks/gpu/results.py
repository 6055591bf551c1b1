"""Results file of the GPU benchmarks: one JSON object per line, appended as soon as a figure is known.

Each line has the name of the measurement (`name`), the name of the GPU (`card`) and the figures.
"""

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
    """Argument parser with the options of all GPU benchmarks; `text` describes the script."""
    argument_parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    argument_parser.add_argument(
        "--results", type=Path, required=True, help="file to append the figures to, as JSON lines"
    )
    argument_parser.add_argument(
        "--small", action="store_true", help="small sizes, to test the script without a GPU; the figures mean nothing"
    )
    return argument_parser


def card() -> str:
    """Name of the GPU, or a text that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none (CPU rehearsal)"


def add(path: Path, name: str, **values: Any) -> None:
    """Append the measurement `name` with its figures to the results file `path`, and print it."""
    line = json.dumps({"name": name, "card": card(), **values})
    with path.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


class GpuWatch:
    """Records the load of the GPU with `nvidia-smi`, five times per second, while the body runs.

    Each sample has seconds since the start, busy share of the GPU (0 to 1) and used memory in MiB. Without `nvidia-smi`
    there are no samples.
    """

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
        """Mean busy share (`gpu_busy`) and peak memory (`gpu_memory_mib`) of the GPU; None if it was never used.

        The mean covers the middle 80 % of the time between first and last use.
        """
        used = [sample for sample in self.samples if sample[1] > 0]
        if not used:
            return {"gpu_busy": None, "gpu_memory_mib": None}
        first, last = used[0][0], used[-1][0]
        margin = 0.1 * (last - first)
        middle = [busy for at, busy, _ in self.samples if first + margin <= at <= last - margin]
        busy = sum(middle) / len(middle) if middle else used[0][1]
        return {"gpu_busy": round(busy, 3), "gpu_memory_mib": max(memory for _, _, memory in self.samples)}
