"""The `diff` job: compares two classifications and writes diff.json, a page and a table of the changed videos.

The module is free of torch, Ray and scikit-learn, so that the job starts quickly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from vidclf import preflight, storage
from vidclf.config import DiffConfig
from vidclf.metrics.intervals import TOO_FEW_SOURCES
from vidclf.number_words import counted
from vidclf.pages import render
from vidclf.reports import video_kinds
from vidclf.reports.comparison import SIDES, Comparison, FlipRate, SublabelChanges, UnmatchedVideo, flip_rates, sources
from vidclf.reports.provenance import command, now, shown, versions
from vidclf.reports.trained_on import uses
from vidclf.runs import lease, output_allowlist, outputs

DIFF_FILE = "diff.json"
"""File name of the figures; the file is written last and marks the comparison as complete."""

FLIPPED_FILE = "flipped.parquet"
"""File name of the table of changed videos."""

PAGE_FILE = "index.html"
"""File name of the HTML page."""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Content of `diff.json`: the figures of the comparison of two classifications, called before and after.

    A flip is a change of the most probable class, whatever the verdict. Changes of the verdict are counted separately.
    """

    overall: FlipRate
    """flip rate (share of videos whose class changed) of all videos in both classifications"""
    by: dict[str, list[FlipRate]]
    """flip rates per group, under the names `class` (the one before), `codec`, `resolution` and `training` (whether the
    ensembles were trained on the videos)"""
    transitions: list[dict[str, Any]]
    """number of videos per pair of different classes before and after; the most frequent pair first"""
    verdicts: dict[str, int]
    """number of videos per `before → after` pair of verdicts, such as `accepted → abstained`"""
    sublabels: SublabelChanges
    """changes of the sublabels, and of the levels at which videos are answered"""
    num_only_before: int
    """number of videos that only the first classification contains"""
    num_only_after: int
    """number of videos that only the second classification contains"""
    lonely: list[UnmatchedVideo]
    """the first videos that only one classification contains, at most `MAX_UNMATCHED` of both together"""
    max_flip_rate: float | None
    """largest flip rate that the user allows; None for no limit"""
    is_within_limit: bool
    """whether the overall flip rate is at most `max_flip_rate`; true without a limit"""
    provenance: dict[str, str]
    """facts about how the figures were made, such as the command line and the library versions"""


def diff(config: DiffConfig) -> Diff | None:
    """Compare two classifications, write the output files, and return the figures; None after a dry run.

    Raises ConfigError if one of the two is not a finished classification, or if they share no video.
    """
    preflight.check_outputs(config)
    comparison = Comparison.read(config)
    num_videos = comparison.num_videos
    if config.dry_run:
        print(f"would compare {counted(num_videos, 'video')} into {config.output}")
        return None
    changes = comparison.changes
    groups = sources(comparison.both, [config.before, config.after])
    overall = flip_rates("overall", ["all videos"] * num_videos, comparison.is_flipped, groups)[0]
    used = uses(comparison.both, groups, {side: getattr(config, side) for side in SIDES})
    result = Diff(
        overall=overall,
        by=comparison.flip_rates(groups, used.names),
        transitions=comparison.transitions,
        verdicts=comparison.verdicts,
        sublabels=comparison.sublabels,
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
            **{f"held out {side}": f"not known: {doubt}" for side, doubt in used.doubts.items() if doubt},
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
    """Text of a few lines for a terminal: the main figures of a comparison and where its page is."""
    overall, interval = result.overall, TOO_FEW_SOURCES
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
        *(
            (f"flipped, {row.name}", f"{row.num_flipped} of {row.num_videos} ({row.rate:.4f})")
            for row in result.by["training"]
            if row.name != video_kinds.UNKNOWN
        ),
        *((f"verdict {name}", str(count)) for name, count in result.verdicts.items()),
        *(
            [("other sublabel", f"{result.sublabels.num_changed} of {result.sublabels.num_videos} with the same class")]
            if result.sublabels.num_videos
            else []
        ),
        ("only before, only after", f"{result.num_only_before}, {result.num_only_after}"),
        ("page", storage.join(output, PAGE_FILE)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _run_facts(location: str, config: DiffConfig, rows: pa.Table) -> str:
    """Text about one classification for the report's table of origins: location, number of videos and ensemble id."""
    ensembles = ", ".join(sorted(rows["ensemble_id"].unique().to_pylist()))
    return f"{shown(location, config.output)}, {counted(rows.num_rows, 'video')}, ensemble {ensembles}"
