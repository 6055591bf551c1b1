"""From seconds per video to workers, videos per second, machines and prices.

The pipeline is modelled as two stages, decoding and CNN. Without GPUs both share the cores, so their seconds per video
add up. With GPUs each stage has its own workers, and the slower stage decides the rate.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from vidclf.config.fields import require
from vidclf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time per video in each stage."""

    decode_s: float
    """decode worker's seconds per video"""
    cnn_s: float
    """CNN worker's seconds per video"""
    is_gpu: bool
    """whether the CNN worker runs on a GPU, else on a CPU"""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Workers of a cluster and their expected rate."""

    decode_workers: int
    """workers that decode; without GPUs they run the CNN too"""
    cnn_workers: int
    """further workers for the CNN; 0 without GPUs"""
    is_gpu: bool
    """whether each CNN worker has a GPU"""
    videos_per_s: float
    """expected videos per second"""
    binds: str
    """the bottleneck, `decode` or `CNN`"""
    decode_busy: float
    """busy share of the decode workers' time, 0 to 1; without GPUs, decoding's share of the cores' time"""
    cnn_busy: float
    """the same for the CNN"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of machine that can be rented."""

    name: str
    cpus: int
    """CPUs per machine"""
    gpus: int
    """GPUs per machine"""
    price: float
    """price per machine and hour"""
    max: int
    """number of machines available"""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A set of machines that meets a deadline."""

    counts: dict[str, int]
    """number of machines by name"""
    pools: Pools
    """workers on all machines together"""
    hours: float
    """expected duration of the job"""
    price: float
    """price of all machines for these hours"""


def pools_for(cost: Cost, cpus: int, gpus: int, efficiency: float) -> Pools:
    """The workers of a cluster with `cpus` and `gpus`, and their rate.

    With GPUs, each GPU has one CNN worker and one CPU for it, one CPU is for Ray, and the other CPUs decode. These are
    the pipeline's defaults. Without GPUs, one worker per CPU does both. `efficiency`: the rate as a share of this
    model's rate, 0 to 1. Raises ValueError for a cost on GPUs and a cluster without any.
    """
    if cost.is_gpu and not gpus:
        raise ValueError("a cost measured on GPUs does not apply to a cluster without any")
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
    """The fewest CPUs and GPUs, in this order, for which `pools_for` gives at least `videos_per_s`."""
    if not cost.is_gpu:
        return _at_least(videos_per_s * (cost.decode_s + cost.cnn_s) / efficiency), 0
    gpus = _at_least(videos_per_s * cost.cnn_s / efficiency)
    return _at_least(videos_per_s * cost.decode_s / efficiency) + gpus + 1, gpus


def cheapest(cost: Cost, machines: list[Machine], num_videos: int, deadline_s: float, efficiency: float) -> Mix | None:
    """The cheapest mix of at most two kinds of machine that finishes `num_videos` within `deadline_s`.

    Among mixes of equal price, the one with the fewest machines. None where no mix is fast enough.
    """
    best: tuple[tuple[float, int], Mix] | None = None
    pairs = list(itertools.combinations(machines, 2)) or [(machines[0], replace(machines[0], max=0))]
    for one, other in pairs:
        # Every combination, because more machines than the deadline needs can be cheaper: an idle GPU costs too.
        for numbers in itertools.product(range(one.max + 1), range(other.max + 1)):
            mix = _mix(cost, list(zip((one, other), numbers, strict=True)), num_videos, efficiency)
            if mix is None or mix.hours * 3600 > deadline_s:
                continue
            rank = (round(mix.price, 6), sum(numbers))
            if best is None or rank < best[0]:
                best = (rank, mix)
    return best[1] if best is not None else None


def machines_of(content: object, where: str) -> list[Machine]:
    """The machines of a price table. Raises ConfigError, naming `where`, for content that is no valid price table."""
    is_table = isinstance(content, dict) and content and all(isinstance(row, dict) for row in content.values())
    if not isinstance(content, dict) or not is_table:
        raise ConfigError(f"--prices {where}: must hold `name: {{cpus: …, gpus: …, price: …, max: …}}` lines")
    machines = []
    for name, row in content.items():
        fields = {"cpus", "gpus", "price", "max"}
        if set(row) != fields:
            raise ConfigError(f"--prices {where}: {name} must have {', '.join(sorted(fields))}, has {', '.join(row)}")
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
    """The mix of these numbers of machines; None for machines that cannot run the pipeline."""
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
    """The smallest whole number of at least `number` and at least 1."""
    # Rounding errors must not cost another worker where the rate is met exactly.
    return max(1, math.ceil(number - 1e-9))
