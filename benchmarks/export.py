"""Time and memory of an export of many made-up predictions, for each format whose library is installed.

    python benchmarks/export.py [--videos 25000 50000 100000] [--classes 10] [--targets csv lance]

Prints a Markdown table per number of videos. Each job is a process of its own. Its CPU seconds hold on a busy machine
too; its memory is the peak of its resident set. `again` is a second export, which finds that nothing is to be done.
`replaced` is an export of another run of the same videos, which replaces every row.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402
from vidclf import schema, storage  # noqa: E402
from vidclf.arrow import column_types, vectors  # noqa: E402
from vidclf.runs.layout import Run  # noqa: E402

TARGETS = {
    "csv": ("out.csv", None, None),
    "delta": ("out", "deltalake", "deltalake"),
    "iceberg": ("out", "pyiceberg", "pyiceberg"),
    "lance": ("out", "lance", "pylance"),
    "fiftyone": ("out", None, None),
    "label-studio": ("out.json", None, None),
    "activitynet": ("out.json", None, None),
}
"""Name of the output, module and package of each target."""

NUM_FRAMES = 73


def write_run(run: Path, num_videos: int, num_classes: int, ensemble_id: str) -> None:
    """Write a finished classification of made-up videos, 5,000 per shard."""
    columns = schema.predictions(num_classes)
    generator = np.random.default_rng(0)
    ids = [f"{number:032x}" for number in range(num_videos)]
    for number, start in enumerate(range(0, num_videos, 5000)):
        part = ids[start : start + 5000]
        table = _predictions(part, num_classes, ensemble_id, columns, generator)
        storage.publish_table(str(run / f"part-{number:032x}-000000.parquet"), table)
    texts = {"label": pa.nulls(num_videos, pa.string()), "sublabel": pa.nulls(num_videos, pa.string())}
    uris = [f"s3://archive/{video}.mp4" for video in ids]
    manifest = {schema.VIDEO_ID: ids, "video_uri": uris, **texts, "group": ids, "split": texts["label"]}
    storage.publish_table(Run(str(run)).manifest_file, pa.table(manifest))
    identity = {"feature_key": "k", "ensemble_id": ensemble_id, "classes": [f"class {c}" for c in range(num_classes)]}
    storage.publish_json(Run(str(run)).identity_file, {**identity, "columns": column_types(columns)})
    counts = {"num_input_videos": num_videos, "num_ok": num_videos, "num_quarantined": 0, "num_pending": 0}
    storage.publish_json(Run(str(run)).summary_file, {**counts, "reasons": {}})


def _predictions(
    ids: list[str], num_classes: int, ensemble_id: str, columns: pa.Schema, generator: np.random.Generator
) -> pa.Table:
    """Made-up predictions with the columns of a run."""
    num = len(ids)
    probabilities_BC = generator.dirichlet(np.ones(num_classes), num).astype(np.float32)
    top_B = probabilities_BC.argmax(axis=1)
    names = pa.array([f"class {index}" for index in top_B])
    frames = pa.array([generator.random(NUM_FRAMES).tolist()] * num, pa.list_(pa.float32()))
    one_view = pa.ListArray.from_arrays(np.arange(num + 1, dtype=np.int32), vectors(probabilities_BC))
    values: dict[str, Any] = {
        schema.VIDEO_ID: ids,
        "video_uri": [f"s3://archive/{video}.mp4" for video in ids],
        "label": names,
        "verdict": ["accepted"] * num,
        "top_label": names,
        "probabilities": vectors(probabilities_BC),
        "member_probabilities": one_view,
        "view_probabilities": one_view,
        "ensemble_id": [ensemble_id] * num,
    }
    for column in columns:
        if column.name in values:
            continue
        if pa.types.is_list(column.type):
            values[column.name] = frames.cast(column.type)
        elif pa.types.is_floating(column.type):
            values[column.name] = pa.array(generator.random(num), column.type)
        elif pa.types.is_string(column.type):
            values[column.name] = ["h264"] * num
        elif pa.types.is_timestamp(column.type):
            values[column.name] = pa.nulls(num, column.type)
        elif pa.types.is_boolean(column.type):
            values[column.name] = [False] * num
        else:
            values[column.name] = pa.array([640] * num, column.type)
    return pa.table(values).select(columns.names).cast(columns)


def measured(*arguments: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and GiB of memory of one export."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "jobs/export.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    """Measure every format and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[100_000])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=[*TARGETS])
    options = parser.parse_args()
    for num_videos in options.videos:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), num_videos, options.classes, options.targets)


def measure(work: Path, num_videos: int, num_classes: int, targets: Sequence[str]) -> None:
    """Measure the exports of one number of videos and print their table."""
    for run, ensemble_id in (("run", "e0"), ("other", "e1")):
        write_run(work / run, num_videos, num_classes, ensemble_id)
    print(f"{num_videos} videos, {num_classes} classes; {describe('pyarrow')}\n")
    print("| target | first export | again | replaced | size |\n|---|---|---|---|---|", flush=True)
    for target in targets:
        name, module, package = TARGETS[target]
        if module is not None and find_spec(module) is None:
            continue
        place = work / target / name
        (work / target).mkdir()
        common = ("--to", target, "--output", str(place))
        cells = [
            "{:.1f} s, {:.1f} CPU s, {:.2f} GiB".format(*measured("--run", str(work / run), *common, "--mode", mode))
            for run, mode in (("run", "append"), ("run", "append"), ("other", "replace-by-video"))
        ]
        paths = [path for path in (work / target).rglob("*") if path.is_file()]
        version = f" ({package} {importlib.metadata.version(package)})" if package else ""
        size = sum(path.stat().st_size for path in paths) / 2**20
        print(f"| {target}{version} | {' | '.join(cells)} | {size:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
