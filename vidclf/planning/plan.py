"""The `plan` job: a text with times, workers, hours and prices for an archive, and a YAML file for other jobs."""

from __future__ import annotations

import os

import pyarrow as pa
import yaml

from vidclf import device, preflight, storage
from vidclf.config import PlanConfig
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.planning import measure, sizing
from vidclf.planning.measure import SampleMeasurement
from vidclf.planning.sizing import Cost, Machine, Mix, Pools
from vidclf.runs import outputs


def plan(config: PlanConfig, manifest: pa.Table) -> str:
    """Measure a sample of `manifest`, compute the workers and machines for the archive, and return a text to print.

    Also writes the file given by `--write`. Raises ConfigError before measuring where the price table cannot be read,
    or where GPUs are planned and this machine has none to measure.
    """
    preflight.check_outputs(config)
    num_gpus_here = device.num_here()
    gpus = num_gpus_here if config.gpus is None else config.gpus
    cpus = config.cpus or len(os.sched_getaffinity(0))
    machines = read_prices(config.prices) if config.prices is not None else []
    is_gpu = bool(num_gpus_here) and gpus > 0
    if not num_gpus_here and (gpus or any(machine.gpus for machine in machines)):
        where = f"--gpus {gpus}" if gpus else f"--prices {config.prices}"
        raise ConfigError(f"{where}: this machine has no GPU to measure; run this on a node that has one")
    measured = measure.measure(config, manifest, is_gpu)
    num_videos = config.num_videos or manifest.num_rows
    cost = Cost(decode_s=measured.decode_mean_s, cnn_s=measured.cnn_mean_s, is_gpu=is_gpu)
    lines = sample_lines(measured, num_videos)
    pools = sizing.pools_for(cost, cpus, gpus, config.efficiency)
    lines += pools_lines(_resources(cpus, gpus), pools, num_videos, measured)
    if config.deadline is not None:
        text, pools = deadline_lines(cost, machines, num_videos, config.deadline, config.efficiency)
        lines += text
    if config.write is not None:
        storage.publish_bytes(outputs.real(config.write), pools_yaml(pools, config).encode())
        lines.append(f"pools       {config.write}, for --config of extract and classify")
    return "\n".join(lines)


def read_prices(location: str) -> list[Machine]:
    """Read the price table at `location` and return its machines.

    Raises ConfigError where the table cannot be read or is not valid.
    """
    return sizing.machines_of(storage.read_yaml(location, "--prices"), location)


def sample_lines(measured: SampleMeasurement, num_videos: int) -> list[str]:
    """Return the lines of text that report the times measured on the sample. `num_videos`: size of the archive."""
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(measured.reasons.items()))
    ordered = sorted(measured.decode_s)
    tail = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    engines = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in measured.cnn_s.items())
    return [
        f"sample      {measured.num_videos} of {num_videos} videos, {measured.mean_duration_s:.1f} s long on average"
        + (f", rejected: {rejected}" if rejected else ""),
        f"decode      {measured.decode_mean_s:.3f} ± {1.96 * measured.decode_error_s:.3f} CPU seconds per video "
        f"(mean, 95 % interval), 95 % of the videos within {tail:.3f} s",
        f"CNN         {engines} per video; a job uses {measured.engine}",
    ]


def pools_lines(resources: str, pools: Pools, num_videos: int, measured: SampleMeasurement) -> list[str]:
    """Return the lines of text on a cluster's workers, videos per second and hours for the archive.

    `resources`: the cluster's CPUs and GPUs in words. `pools`: its workers. `num_videos`: size of the archive.
    """
    hours = num_videos / pools.videos_per_s / 3600
    # The 95 % interval of the decoding time, weighted with decoding's share of the total time.
    share = pools.decode_busy if not pools.is_gpu else float(pools.binds == "decode")
    spread = 1.96 * measured.decode_error_s / measured.decode_mean_s * share
    return [
        f"cluster     {resources}: {_workers(pools)}, {pools.videos_per_s:.2f} videos/s; {num_videos} videos in "
        f"{hours:.2f} h (± {100 * spread:.0f} % because the sample is small)",
        f"bottleneck  {_bottleneck(pools)}",
    ]


def deadline_lines(
    cost: Cost, machines: list[Machine], num_videos: int, deadline_h: float, efficiency: float
) -> tuple[list[str], Pools]:
    """Return the lines of text on the CPUs, GPUs and machines that meet `--deadline`, and the numbers of workers.

    With `machines` (the price table), the workers are those of the cheapest mix of machines. `efficiency`: expected
    share of the ideal rate, 0 to 1. Raises ConfigError where no mix meets the deadline.
    """
    rate = num_videos / (deadline_h * 3600)
    cpus, gpus = sizing.needed(cost, rate, efficiency)
    pools = sizing.pools_for(cost, cpus, gpus, efficiency)
    resources = _resources(cpus, gpus)
    lines = [f"deadline    {deadline_h:g} h: {rate:.2f} videos/s, which needs {resources}; {_workers(pools)}"]
    if not machines:
        return lines, pools
    mix = sizing.cheapest(cost, machines, num_videos, deadline_h * 3600, efficiency)
    if mix is None:
        raise ConfigError(
            f"--deadline {deadline_h:g}: cannot be met with two kinds of the machines in --prices; it needs {resources}"
        )
    return [*lines, *mix_lines(mix)], mix.pools


def mix_lines(mix: Mix) -> list[str]:
    """Return the lines of text on a mix of machines: their number, videos per second, bottleneck and price."""
    counts = " + ".join(f"{count} × {name}" for name, count in mix.counts.items())
    return [
        f"machines    {counts}: {_workers(mix.pools)}, {mix.pools.videos_per_s:.2f} videos/s, "
        f"done in {mix.hours:.2f} h",
        f"bottleneck  {_bottleneck(mix.pools)}",
        f"price       {mix.price:.2f}, excluding the head node, storage and traffic",
    ]


def pools_yaml(pools: Pools, config: PlanConfig) -> str:
    """Return a YAML text for `--config` of extract and classify, with numbers of workers, GPU share and precision."""
    values = {
        "decode_workers": pools.decode_workers,
        **({"cnn_workers": pools.cnn_workers} if pools.is_gpu else {}),
        "gpus_per_cnn_worker": 1.0 if pools.is_gpu else 0.0,
        "precision": config.precision,
    }
    comment = f"# {config.backbone}, {config.num_frames} frames, {config.sampling}: {pools.videos_per_s:.3g} videos/s"
    return f"{comment}\n{yaml.safe_dump(values, sort_keys=False)}"


def _resources(cpus: int, gpus: int) -> str:
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"


def _workers(pools: Pools) -> str:
    if not pools.is_gpu:
        return f"{counted(pools.decode_workers, 'worker')} for decoding and the CNN"
    decode = counted(pools.decode_workers, "decode worker")
    return f"{decode}, {counted(pools.cnn_workers, 'CNN worker')} on GPUs"


def _bottleneck(pools: Pools) -> str:
    of = "of its workers' time" if pools.is_gpu else "of the CPUs' time"
    return f"{pools.binds}; decode is busy {100 * pools.decode_busy:.0f} % {of}, the CNN {100 * pools.cnn_busy:.0f} %"
