"""Shares of train, val and test in archives that grow: no source may change side, and shares must stay near 70/20/10.

    python benchmarks/split_growth.py [--videos 50,60,100,1000,10000,100000] [--seeds 10]

Each archive is made of names only. It grows by 1, 2 and 3 videos, by 5 %, 10 %, 50 % and 100 %, and is split again with
the splits of the first time. The table has a row per archive:

- clips: videos per source; all videos of a source are in one split,
- first: largest deviation of a share from the asked one in the first draw, in points (percent of the videos),
- grown: the largest deviation after any growth,
- bound: the largest of 2 points, two thirds of a source (three shares of whole sources cannot be rounded better), and
  what the rule costs that every class is in every split: with 10 classes of 5 videos, test has a video of each,
- moved: old videos that are in another split than before.

An archive with more than one clip per source grows by whole sources, or completes the last one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.archive import splits
from vidclf.schema import SPLITS

FRACTIONS = (0.7, 0.2, 0.1)
KINDS = ((2, 1, 1), (4, 1, 1), (4, 3, 1), (10, 3, 1), (4, 3, 2), (2, 2, 5))
"""Numbers of classes, of sublabels per class and of videos per source."""

Row = tuple[str, str | None, str]
"""Class, sublabel and source of a video."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Deviations of an archive before and after it grew, in points, their bound, and the number of moved videos."""

    first: float
    grown: float
    bound: float
    num_moved: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default="50,60,100,1000,10000,100000", help="sizes of the archives")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds for archives of up to 1,000 videos")
    arguments = parser.parse_args()
    print(describe("pyarrow"), "\n", flush=True)
    print("| videos | classes | sublabels | clips | first | grown | bound | moved | seconds |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for num_videos, kind in itertools.product(map(int, arguments.videos.split(",")), KINDS):
        started = time.perf_counter()
        seeds = range(arguments.seeds if num_videos <= 1000 else 1)
        growths = [grow(num_videos, more, kind, seed) for more in additions(num_videos) for seed in seeds]
        first, grown, bound = (max(getattr(one, name) for one in growths) for name in ("first", "grown", "bound"))
        num_moved = sum(one.num_moved for one in growths)
        is_within = all(max(one.first, one.grown) <= one.bound + 1e-9 for one in growths)
        print(
            f"| {num_videos:,} | {kind[0]} | {kind[1]} | {kind[2]} | {first:.2f} | {grown:.2f} | {bound:.2f}"
            f"{'' if is_within else ' exceeded'} | {num_moved} | {time.perf_counter() - started:.1f} |",
            flush=True,
        )


def additions(num_videos: int) -> list[int]:
    """Numbers of new videos by which an archive grows."""
    shares = (num_videos // 20, num_videos // 10, num_videos // 2, num_videos)
    return sorted({1, 2, 3, *shares})


def archive(num_videos: int, kind: tuple[int, int, int]) -> list[Row]:
    """The videos of an archive, whose classes and sublabels have equally many sources."""
    num_classes, num_sublabels, clips = kind
    rows: list[Row] = []
    for number in range(num_videos):
        source = number // clips
        sublabel = f"s{source // num_classes % num_sublabels}" if num_sublabels > 1 else None
        rows.append((f"c{source % num_classes}", sublabel, f"g{source}"))
    return rows


def grow(num_videos: int, more: int, kind: tuple[int, int, int], seed: int) -> Growth:
    """Split an archive, let it grow by `more` videos, and split it again."""
    rows = archive(num_videos + more, kind)
    before = assigned(rows[:num_videos], seed, {})
    kept = {source: split for (_, _, source), split in zip(rows, before, strict=False)}
    after = assigned(rows, seed, kept)
    return Growth(
        first=deviation(before),
        grown=deviation(after),
        bound=max(2.0, 100 * 2 / 3 * kind[2] / num_videos, forced(rows[:num_videos])),
        num_moved=sum(old != new for old, new in zip(before, after, strict=False)),
    )


def assigned(rows: Sequence[Row], seed: int, kept: dict[str, str]) -> list[str]:
    """The split of each video."""
    labels, sublabels, sources = (list(column) for column in zip(*rows, strict=True))
    return splits.assign(labels, sublabels, sources, FRACTIONS, seed, kept)


def deviation(names: Sequence[str]) -> float:
    """Largest difference between the share of a split and the share asked for, in points."""
    count = Counter(names)
    shares = zip(SPLITS, FRACTIONS, strict=True)
    return max(abs(count[name] / len(names) - fraction) for name, fraction in shares) * 100


def forced(rows: Sequence[Row]) -> float:
    """By how many points the smallest split must exceed its share, so that it holds a whole source of every class."""
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for label, _, source in rows:
        sizes[label][source] += 1
    least = sum(min(of_class.values()) for of_class in sizes.values())
    most = sum(max(of_class.values()) for of_class in sizes.values())
    return 100 * (max(least, most) / len(rows) - min(FRACTIONS))


if __name__ == "__main__":
    main()
