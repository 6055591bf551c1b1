"""From seconds per video to workers, rates, machines and prices: literal arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from vidclf.errors import ConfigError
from vidclf.planning.sizing import Cost, Machine, Pools, cheapest, machines_of, needed, pools_for

ON_CPU = Cost(decode_s=1.0, cnn_s=3.0, is_gpu=False)
ON_GPU = Cost(decode_s=1.0, cnn_s=0.125, is_gpu=True)


def test_on_cpus_both_stages_share_the_cores() -> None:
    # 16 cores, 4 core-seconds per video: 4 videos per second, times an efficiency of three quarters.
    assert pools_for(ON_CPU, 16, 0, 0.75) == Pools(
        decode_workers=16,
        cnn_workers=0,
        is_gpu=False,
        videos_per_s=3.0,
        binds="CNN",
        decode_busy=0.25,
        cnn_busy=0.75,
    )


def test_with_gpus_the_slower_stage_binds() -> None:
    # 64 CPUs, less 4 for the GPUs and 1 for Ray: 59 videos per second are decoded, 32 embedded.
    pools = pools_for(ON_GPU, 64, 4, 1.0)
    assert (pools.decode_workers, pools.cnn_workers, pools.videos_per_s, pools.binds) == (59, 4, 32.0, "CNN")
    assert (pools.decode_busy, pools.cnn_busy) == (32 / 59, 1.0)
    pools = pools_for(ON_GPU, 21, 4, 0.5)
    assert (pools.decode_workers, pools.videos_per_s, pools.binds) == (16, 8.0, "decode")
    assert (pools.decode_busy, pools.cnn_busy) == (1.0, 0.5)


def test_seconds_on_gpus_are_not_taken_for_a_cluster_without_any() -> None:
    with pytest.raises(ValueError, match="without any"):
        pools_for(ON_GPU, 64, 0, 1.0)


@pytest.mark.parametrize(
    ("cost", "videos_per_s", "efficiency", "cpus", "gpus"),
    [
        (ON_CPU, 3.0, 0.75, 16, 0),
        (ON_CPU, 3.01, 0.75, 17, 0),
        (ON_CPU, 0.001, 1.0, 1, 0),
        (ON_GPU, 32.0, 1.0, 37, 4),
        (ON_GPU, 8.0, 0.5, 19, 2),
    ],
)
def test_the_fewest_resources_for_a_rate_reach_it(
    cost: Cost, videos_per_s: float, efficiency: float, cpus: int, gpus: int
) -> None:
    assert needed(cost, videos_per_s, efficiency) == (cpus, gpus)
    assert pools_for(cost, cpus, gpus, efficiency).videos_per_s >= videos_per_s - 1e-9


def machine(name: str, cpus: int, gpus: int, price: float, number: int) -> Machine:
    return Machine(name=name, cpus=cpus, gpus=gpus, price=price, max=number)


def test_the_cheapest_machines_that_meet_the_deadline() -> None:
    # 14,400 videos of 4 core-seconds are 16 core-hours: in 1 hour 16 CPUs, in half an hour 32.
    small, large = machine("small", 4, 0, 0.2, 10), machine("large", 16, 0, 0.7, 10)
    mix = cheapest(ON_CPU, [small, large], 14_400, 3600.0, 1.0)
    assert mix is not None
    assert (mix.counts, mix.hours, mix.price) == ({"large": 1}, 1.0, pytest.approx(0.7))
    mix = cheapest(ON_CPU, [small], 14_400, 1800.0, 1.0)
    assert mix is not None
    assert (mix.counts, mix.hours, mix.price) == ({"small": 8}, 0.5, pytest.approx(0.8))
    assert cheapest(ON_CPU, [small], 14_400, 1000.0, 1.0) is None


def test_a_gpu_that_waits_costs_more_than_machines_that_feed_it() -> None:
    # A GPU embeds 8 videos per second. Its own machine decodes only 2 (4 CPUs, one for the GPU, one for Ray).
    gpu, cpu = machine("gpu", 4, 1, 1.0, 1), machine("cpu", 2, 0, 0.05, 10)
    mix = cheapest(ON_GPU, [gpu, cpu], 28_800, 10 * 3600.0, 1.0)
    assert mix is not None
    # With three more machines 8 videos per second are decoded, and the job takes an hour.
    assert (mix.counts, mix.hours, mix.price) == ({"gpu": 1, "cpu": 3}, 1.0, pytest.approx(1.15))
    assert mix.pools.videos_per_s == 8.0


ROW = {"cpus": 16, "gpus": 0, "price": 0.7, "max": 10}


def test_a_price_table() -> None:
    assert machines_of({"large": ROW}, "p.yaml") == [machine("large", 16, 0, 0.7, 10)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "--prices p.yaml: must hold `name: {cpus: …, gpus: …, price: …, max: …}` lines"),
        ({"large": 3}, "--prices p.yaml: must hold `name: {cpus: …, gpus: …, price: …, max: …}` lines"),
        ({"large": {"cpus": 1}}, "--prices p.yaml: large must have cpus, gpus, max, price, has cpus"),
        ({"large": {**ROW, "cpus": 0}}, "--prices must be large: cpus of at least 1, got 0"),
        ({"large": {**ROW, "max": True}}, "--prices must be large: max of at least 1, got True"),
        ({"large": {**ROW, "price": "cheap"}}, "--prices must be large: price of at least 0, got 'cheap'"),
        ({"large": {**ROW, "gpus": 17}}, "--prices must be large: at most as many gpus as cpus (16), got 17"),
    ],
)
def test_an_invalid_price_table_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        machines_of(content, "p.yaml")
    assert str(error.value) == message
