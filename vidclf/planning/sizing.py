"""Arithmetic of capacity planning: from seconds per video to workers, videos per second, machines and prices.

The pipeline is modelled as two stages, decoding and CNN. Without GPUs both share the cores, so their seconds per
video add up. With GPUs each stage has its own workers, and the slower stage decides the rate.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from vidclf.config.fields import require
from vidclf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds that one video takes in each stage of the pipeline, decoding and CNN."""

    decode_s: float
    """seconds that a decode worker takes per video"""
    cnn_s: float
    """seconds that a CNN worker takes per video"""
    is_gpu: bool
    """true if the CNN worker runs on a GPU, false if on a CPU"""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Workers of a cluster and the number of videos per second expected from them."""

    decode_workers: int
    """number of workers that decode; without GPUs they run the CNN too"""
    cnn_workers: int
    """number of workers for the CNN, in addition to those that decode; 0 without GPUs"""
    is_gpu: bool
    """whether each CNN worker has a GPU"""
    videos_per_s: float
    """expected videos per second of the whole cluster"""
    binds: str
    """stage that is the bottleneck: `decode` or `CNN`"""
    decode_busy: float
    """fraction of their time that decode workers are busy, 0 to 1; without GPUs, the fraction of the cores' time
    spent on decoding"""
    cnn_busy: float
    """fraction of their time that CNN workers are busy, 0 to 1; without GPUs, the fraction of the cores' time spent
    on the CNN"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A type of machine that can be rented, with its size, price and available number."""

    name: str
    cpus: int
    """CPUs of one such machine"""
    gpus: int
    """GPUs of one such machine"""
    price: float
    """price of one such machine per hour"""
    max: int
    """number of such machines available"""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A set of machines to rent for a job, with the expected time and price."""

    counts: dict[str, int]
    """number of machines, by name of the machine type"""
    pools: Pools
    """workers on all machines together"""
    hours: float
    """expected duration of the job in hours"""
    price: float
    """price of all machines together for the job's duration"""


def pools_for(cost: Cost, cpus: int, gpus: int, efficiency: float) -> Pools:
    """Return the workers of a cluster with `cpus` CPUs and `gpus` GPUs, and their expected videos per second.

    With GPUs, each GPU has one CNN worker and one CPU for it, one CPU is for Ray, and the other CPUs decode. These
    are the pipeline's defaults. Without GPUs, one worker per CPU decodes and runs the CNN. `cost`: seconds per video
    in each stage. `efficiency`: expected share of the rate that this model gives, 0 to 1. Raises ValueError for a
    cost on GPUs and a cluster without any.
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
    """Return the fewest CPUs and the fewest GPUs, in this order, that process at least `videos_per_s`."""
    if not cost.is_gpu:
        return _at_least(videos_per_s * (cost.decode_s + cost.cnn_s) / efficiency), 0
    gpus = _at_least(videos_per_s * cost.cnn_s / efficiency)
    return _at_least(videos_per_s * cost.decode_s / efficiency) + gpus + 1, gpus


def cheapest(cost: Cost, machines: list[Machine], num_videos: int, deadline_s: float, efficiency: float) -> Mix | None:
    """Return the cheapest set of machines that finishes `num_videos` within `deadline_s`; None if there is none.

    The set has at most two types of machine. Among sets of equal price, the one with the fewest machines is returned.
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
    """Return the machines listed in a price table.

    `content`: the table as read from YAML. Raises ConfigError, which names the file `where`, if it is no valid price
    table.
    """
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
    """Return the set that these machines form, with time and price; None if they cannot run the pipeline.

    `numbers`: pairs of a machine type and the number of such machines.
    """
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
    """Return `number` rounded up to a whole number of at least 1; tiny rounding errors in `number` do not count."""
    # Rounding errors must not cost another worker where the rate is met exactly.
    return max(1, math.ceil(number - 1e-9))
