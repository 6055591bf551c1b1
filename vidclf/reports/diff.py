"""The `diff` job: compares two classifications and writes diff.json, the page and a table of the changed videos.

Free of torch, Ray and scikit-learn, so that it starts quickly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from vidclf import preflight, storage
from vidclf.config import DiffConfig
from vidclf.pages import render
from vidclf.reports.comparison import Comparison, FlipRate, UnmatchedVideo, flip_rates, sources
from vidclf.reports.provenance import command, now, shown, versions
from vidclf.runs import lease, output_allowlist, outputs

DIFF_FILE = "diff.json"

FLIPPED_FILE = "flipped.parquet"

PAGE_FILE = "index.html"


@dataclass(frozen=True, kw_only=True)
class Diff:
    """The content of `diff.json`.

    A flip is a change of the most probable class, whatever the verdict. Changes of the verdict are counted separately.
    """

    overall: FlipRate
    by: dict[str, list[FlipRate]]
    """flip rates by class (the one before), codec and resolution"""
    transitions: list[dict[str, Any]]
    """number of videos per pair of different classes before and after, in descending order"""
    verdicts: dict[str, int]
    """number of videos per `before → after` pair of verdicts"""
    num_only_before: int
    num_only_after: int
    lonely: list[UnmatchedVideo]
    """the first unmatched videos of each run, at most `MAX_UNMATCHED` in total"""
    max_flip_rate: float | None
    is_within_limit: bool
    """whether the flip rate is at most `max_flip_rate`; true without a limit"""
    provenance: dict[str, str]


def diff(config: DiffConfig) -> Diff | None:
    """Compare two classifications, write the page and the lists, and return the figures; None after a dry run.

    Raises ConfigError if one of the two is not a finished classification, or if they share no video.
    """
    preflight.check_outputs(config)
    comparison = Comparison.read(config)
    num_videos = comparison.num_videos
    if config.dry_run:
        print(f"would compare {num_videos} videos into {config.output}")
        return None
    changes = comparison.changes
    groups = sources(comparison.both, [config.before, config.after])
    overall = flip_rates("overall", ["all videos"] * num_videos, comparison.is_flipped, groups)[0]
    result = Diff(
        overall=overall,
        by=comparison.flip_rates(groups),
        transitions=comparison.transitions,
        verdicts=comparison.verdicts,
        num_only_before=comparison.before.num_rows - num_videos,
        num_only_after=comparison.after.num_rows - num_videos,
        lonely=comparison.unmatched(config),
        max_flip_rate=config.max_flip_rate,
        is_within_limit=config.max_flip_rate is None or overall.rate <= config.max_flip_rate,
        provenance={
            "command": command("diff", config),
            "date": now(),
            "before": _run_facts(config.before, config, comparison.before),
            "after": _run_facts(config.after, config, comparison.after),
            "versions": versions(),
        },
    )
    lease.guard(config.output).check()
    outputs.begin(output_allowlist.COMPARISON, config.output)
    storage.publish_table(storage.join(config.output, FLIPPED_FILE), changes)
    html = render.render(
        "diff.html.j2",
        diff=result,
        changes=changes.slice(0, config.max_listed).to_pylist(),
        num_changes=changes.num_rows,
        flipped_file=FLIPPED_FILE,
    )
    storage.publish_bytes(storage.join(config.output, PAGE_FILE), html.encode())
    # diff.json is written last: it marks the comparison as complete.
    storage.publish_json(storage.join(config.output, DIFF_FILE), asdict(result))
    return result


def table(result: Diff, output: str) -> str:
    """The comparison in a few lines for a terminal."""
    overall, interval = result.overall, "no interval: fewer than 5 sources"
    if overall.interval_95 is not None:
        interval = "95 % interval {:.4f} to {:.4f}".format(*overall.interval_95)
    limit = ""
    if result.max_flip_rate is not None:
        limit = f"; {'within' if result.is_within_limit else 'ABOVE'} --max-flip-rate {result.max_flip_rate:g}"
    rows = [
        ("videos in both", str(overall.num_videos)),
        (
            "flipped",
            f"{overall.num_flipped} ({overall.rate:.4f}, {interval}{limit})",
        ),
        *((f"verdict {name}", str(count)) for name, count in result.verdicts.items()),
        ("only before, only after", f"{result.num_only_before}, {result.num_only_after}"),
        ("page", storage.join(output, PAGE_FILE)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _run_facts(location: str, config: DiffConfig, rows: pa.Table) -> str:
    ensembles = ", ".join(sorted(rows["ensemble_id"].unique().to_pylist()))
    return f"{shown(location, config.output)}, {rows.num_rows} videos, ensemble {ensembles}"
