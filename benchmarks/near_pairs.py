"""Time and memory of the search for near duplicates, exact and by an approximate index.

    python benchmarks/near_pairs.py [--videos 10000,100000] [--dim 1280] [--cosine 0.95] [--methods float32,bfloat16]

The mean features of the videos are random vectors of length 1, of which one in fifty is a near duplicate of another one
(cosine 0.93 to 0.99). Each method runs in a process of its own:

- float32: all pairs, in squares of the matrix of cosines;
- bfloat16: the same pairs, with squares ruled out in bfloat16 first, as `vidclf/features/near_pairs.py` does it where
  the processor has instructions for it;
- usearch: a graph index (HNSW, Malkov & Yashunin 2018) of the library of that name, if it is installed, with its
  default settings; each video is looked up with its 16 nearest neighbours.

The table has the CPU seconds, the elapsed seconds, what the peak of the memory grows by during the search, the number
of pairs, and the recall: the share of the pairs found by float32 (or else bfloat16) that the method finds too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.features import near_pairs

NEIGHBOURS = 16
"""Number of neighbours that are looked up in the index."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default="10000,100000", help="numbers of videos")
    parser.add_argument("--dim", type=int, default=1280, help="features per video")
    parser.add_argument("--cosine", type=float, default=0.95, help="cosine from which videos are near duplicates")
    parser.add_argument("--methods", default="float32,bfloat16", help="methods to compare, the exact ones first")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(search(arguments.one, int(arguments.videos), arguments.dim, arguments.cosine)))
        return
    print(describe("numpy", "torch"), "\n")
    print("| videos | method | CPU s | s | memory, MiB | pairs | recall |\n|---|---|---|---|---|---|---|", flush=True)
    for num_videos in arguments.videos.split(","):
        exact: set[tuple[int, int]] | None = None
        for method in arguments.methods.split(","):
            sizes = ["--videos", num_videos, "--dim", str(arguments.dim), "--cosine", str(arguments.cosine)]
            command = [sys.executable, __file__, *sizes, "--one", method]
            measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            pairs = {(first, second) for first, second in measured["pairs"]}
            exact = pairs if exact is None else exact
            print(
                f"| {int(num_videos):,} | {method} | {measured['cpu_s']:.1f} | {measured['wall_s']:.1f} | "
                f"{measured['peak_mib']:.0f} | {len(pairs)} | {len(pairs & exact) / len(exact):.4f} |",
                flush=True,
            )


def search(method: str, num_videos: int, dim: int, cosine: float) -> dict[str, object]:
    """Run one method in this process; returns its pairs and what it took."""
    unit_ND = vectors(num_videos, dim)
    before, started, used = _peak_kib(), time.perf_counter(), time.process_time()
    pairs = by_index(unit_ND, cosine) if method == "usearch" else exactly(unit_ND, cosine, method == "bfloat16")
    return {
        "cpu_s": time.process_time() - used,
        "wall_s": time.perf_counter() - started,
        "peak_mib": (_peak_kib() - before) / 1024,
        "pairs": pairs,
    }


def vectors(num_videos: int, dim: int) -> npt.NDArray[np.float32]:
    """Random vectors of length 1, of which each fiftieth is near the one before it."""
    generator = np.random.default_rng(0)
    unit_ND = np.empty((num_videos, dim), np.float32)
    for row_D in unit_ND:
        row_D[:] = generator.standard_normal(dim, np.float32)
        row_D /= np.linalg.norm(row_D)
    for copy in range(1, num_videos, 50):
        near = generator.uniform(0.93, 0.99)
        unit_ND[copy] = near * unit_ND[copy - 1] + np.sqrt(1 - near**2) * unit_ND[copy]
        unit_ND[copy] /= np.linalg.norm(unit_ND[copy])
    return unit_ND


def exactly(unit_ND: npt.NDArray[np.float32], cosine: float, is_rounded: bool) -> list[tuple[int, int]]:
    """All pairs with at least this cosine."""
    near_pairs.LEAST_ROUNDED = 0 if is_rounded else len(unit_ND) + 1
    pairs = near_pairs.near_pairs(unit_ND, cosine)
    return [(int(i), int(j)) for first, second, _ in pairs for i, j in zip(first, second, strict=True)]


def by_index(unit_ND: npt.NDArray[np.float32], cosine: float) -> list[tuple[int, int]]:
    """Pairs with at least this cosine that an approximate index finds."""
    from usearch.index import Index

    index = Index(ndim=unit_ND.shape[1], metric="ip", dtype="bf16")
    index.add(np.arange(len(unit_ND)), unit_ND)
    found = index.search(unit_ND, NEIGHBOURS)
    pairs = set()
    for row, keys in enumerate(np.asarray(found.keys)):
        near = keys[unit_ND[keys.astype(np.int64)] @ unit_ND[row] >= cosine]
        pairs |= {(min(row, int(key)), max(row, int(key))) for key in near if int(key) != row}
    return sorted(pairs)


def _peak_kib() -> int:
    """Peak of the resident memory of this process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
