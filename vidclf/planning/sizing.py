"""From what a video costs to what a cluster needs: workers, videos per second, machines, price.

The model is that of a pipeline of two stages. On CPUs alone both share the cores, so rates add as
seconds do; with GPUs each stage has machines of its own, and the slower one binds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from vidclf.config.fields import require
from vidclf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a video takes."""

    decode_s: float
    """seconds of a decode worker"""
    cnn_s: float
    """seconds of a CNN worker"""
    is_gpu: bool
    """whether that is a GPU's worker, or one on a CPU"""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Workers of a cluster, and what they do."""

    decode_workers: int
    cnn_workers: int
    """apart from those; none on CPUs alone"""
    is_gpu: bool
    """whether the CNN's workers have a GPU each"""
    videos_per_s: float
    binds: str
    """decode or CNN"""
    decode_busy: float
    """share of the decode workers' time that they work, or of the cores' time on CPUs alone"""
    cnn_busy: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of machine to choose from."""

    name: str
    cpus: int
    gpus: int
    price: float
    """for an hour"""
    max: int
    """how many there are"""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Machines for a deadline."""

    counts: dict[str, int]
    """by name"""
    pools: Pools
    hours: float
    price: float
    """for these hours"""


def pools_for(cost: Cost, cpus: int, gpus: int, efficiency: float) -> Pools:
    """The pools of a cluster, and its rate.

    With GPUs one CNN worker each, a CPU beside it, one CPU for Ray, and the other CPUs decode, as the
    pipeline has it by default. Without, a worker on each CPU does both. Raises ValueError for a cost on GPUs and a
    cluster without any.
    """
    if cost.is_gpu and not gpus:
        raise ValueError("a cost on GPUs says nothing of a cluster without any")
    if not cost.is_gpu:
        total_s = cost.decode_s + cost.cnn_s
        return Pools(
            decode_workers=cpus,
            cnn_workers=0,
            is_gpu=False,
            videos_per_s=efficiency * cpus / total_s,
            binds="decode" if cost.decode_s >= cost.cnn_s else "CNN",
            decode_busy=cost.decode_s / total_s,
            cnn_busy=cost.cnn_s / total_s,
        )
    decode_workers = max(1, cpus - gpus - 1)
    decode_rate, cnn_rate = decode_workers / cost.decode_s, gpus / cost.cnn_s
    rate = min(decode_rate, cnn_rate)
    return Pools(
        decode_workers=decode_workers,
        cnn_workers=gpus,
        is_gpu=True,
        videos_per_s=efficiency * rate,
        binds="decode" if decode_rate <= cnn_rate else "CNN",
        decode_busy=rate / decode_rate,
        cnn_busy=rate / cnn_rate,
    )


def needed(cost: Cost, videos_per_s: float, efficiency: float) -> tuple[int, int]:
    """The fewest CPUs and GPUs with which `pools_for` reaches a rate."""
    if not cost.is_gpu:
        return _at_least(videos_per_s * (cost.decode_s + cost.cnn_s) / efficiency), 0
    gpus = _at_least(videos_per_s * cost.cnn_s / efficiency)
    return _at_least(videos_per_s * cost.decode_s / efficiency) + gpus + 1, gpus


def cheapest(cost: Cost, machines: list[Machine], num_videos: int, deadline_s: float, efficiency: float) -> Mix | None:
    """The mix of at most two kinds of machine that is done by the deadline for the least money, of equal
    ones that with the fewest machines; None where all there are do not suffice."""
    best: tuple[tuple[float, int], Mix] | None = None
    pairs = list(itertools.combinations(machines, 2)) or [(machines[0], replace(machines[0], max=0))]
    for one, other in pairs:
        # All of them, because more machines than the deadline wants can be cheaper: a GPU that waits costs too.
        for numbers in itertools.product(range(one.max + 1), range(other.max + 1)):
            mix = _mix(cost, list(zip((one, other), numbers, strict=True)), num_videos, efficiency)
            if mix is None or mix.hours * 3600 > deadline_s:
                continue
            rank = (round(mix.price, 6), sum(numbers))
            if best is None or rank < best[0]:
                best = (rank, mix)
    return best[1] if best is not None else None


def machines_of(content: object, where: str) -> list[Machine]:
    """The machines that a price table names; ConfigError, naming `where`, for anything else than one."""
    is_table = isinstance(content, dict) and content and all(isinstance(row, dict) for row in content.values())
    if not isinstance(content, dict) or not is_table:
        raise ConfigError(f"--prices {where}: must hold `name: {{cpus: …, gpus: …, price: …, max: …}}` lines")
    machines = []
    for name, row in content.items():
        names = {"cpus", "gpus", "price", "max"}
        if set(row) != names:
            raise ConfigError(f"--prices {where}: {name} must have {', '.join(sorted(names))}, has {', '.join(row)}")
        for field, least in (("cpus", 1), ("gpus", 0), ("max", 1)):
            is_whole = isinstance(row[field], int) and not isinstance(row[field], bool)
            require(is_whole and row[field] >= least, "prices", f"{name}: {field} of at least {least}", row[field])
        rule = f"{name}: at most as many gpus as cpus ({row['cpus']})"
        require(row["gpus"] <= row["cpus"], "prices", rule, row["gpus"])
        is_number = isinstance(row["price"], (int, float)) and not isinstance(row["price"], bool)
        require(is_number and row["price"] >= 0, "prices", f"{name}: price of at least 0", row["price"])
        machines.append(Machine(name=str(name), **row))
    return machines


def _mix(cost: Cost, numbers: list[tuple[Machine, int]], num_videos: int, efficiency: float) -> Mix | None:
    """None for machines that cannot run the pipeline."""
    cpus = sum(machine.cpus * number for machine, number in numbers)
    gpus = sum(machine.gpus * number for machine, number in numbers)
    if not cpus or (cost.is_gpu and not gpus):
        return None
    pools = pools_for(cost, cpus, gpus, efficiency)
    hours = num_videos / pools.videos_per_s / 3600
    return Mix(
        counts={machine.name: number for machine, number in numbers if number},
        pools=pools,
        hours=hours,
        price=hours * sum(machine.price * number for machine, number in numbers),
    )


def _at_least(number: float) -> int:
    # A rate that is met to the last bit must not cost another worker.
    return max(1, math.ceil(number - 1e-9))
