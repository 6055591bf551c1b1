"""Two classifications of the same videos: which changed class, which changed verdict, which are in one only."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import arguments, arrow, schema, storage
from vidclf.config import DiffConfig
from vidclf.credentials import common_base, relative
from vidclf.errors import ConfigError
from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.pages import render
from vidclf.reports import video_kinds
from vidclf.reports.provenance import command, now, shown, versions
from vidclf.runs import layout, output_files, outputs

DIFF_FILE = "diff.json"

FLIPPED_FILE = "flipped.parquet"

PAGE_FILE = "index.html"

MAX_LONELY = 200
"""Videos in one run only that diff.json and the page name."""

_COLUMNS = [
    schema.VIDEO_ID,
    "video_uri",
    "verdict",
    "top_label",
    "confidence",
    "trust_score",
    "video_codec",
    "width",
    "height",
    "ensemble_id",
]


@dataclass(frozen=True, kw_only=True)
class FlipRate:
    """How many of some videos changed their most probable class."""

    name: str
    num_videos: int
    num_flipped: int
    rate: float
    interval_95: Interval | None
    """that counts sources, by the manifest of a run; a video whose source no manifest tells is its own"""


@dataclass(frozen=True, kw_only=True)
class UnmatchedVideo:
    """A video that one run has classified and the other has not."""

    video_uri: str
    only_in: str
    """before or after"""
    reason: str
    """why the other has not: its quarantine's reason, or that it does not know the video"""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """`diff.json`. A flip is another most probable class, whatever the verdict; a change of verdict is
    counted apart, and is no flip."""

    overall: FlipRate
    by: dict[str, list[FlipRate]]
    """class (before), codec, resolution"""
    transitions: list[dict[str, Any]]
    """classes before and after and how many videos, the most first"""
    verdicts: dict[str, int]
    """videos by `before → after`"""
    num_only_before: int
    num_only_after: int
    lonely: list[UnmatchedVideo]
    """the first of them"""
    max_flip_rate: float | None
    is_within_limit: bool
    """whether the flip rate is at most `max_flip_rate`; true without one"""
    provenance: dict[str, str]


def diff(config: DiffConfig) -> Diff | None:
    """Compare, write the page and the lists, and return what they say; None after a dry run.

    Raises ConfigError where one of the two is no finished classification or they share no video.
    """
    arguments.check_outputs(config)
    before, after = _relative(config, [_read(flag, getattr(config, flag)) for flag in ("before", "after")])
    both = before.join(after, schema.VIDEO_ID, join_type="inner", left_suffix="_before", right_suffix="_after")
    if not both.num_rows:
        raise ConfigError(
            f"--after {config.after}: shares no video with {config.before}; videos are matched by video_id, which is "
            "a digest of where they are"
        )
    if config.dry_run:
        print(f"would compare {both.num_rows} videos into {config.output}")
        return None
    changes = _changes(both)
    lonely = [*_lonely("before", before, after, config.after), *_lonely("after", after, before, config.before)]
    labels = both["top_label_before"].to_pylist()
    is_flipped = pc.not_equal(both["top_label_before"], both["top_label_after"]).to_pylist()
    codecs, resolutions = _kinds(both)
    groups = _groups(both, [config.before, config.after])
    overall = flip_rates("overall", ["all videos"] * both.num_rows, is_flipped, groups)[0]
    result = Diff(
        overall=overall,
        by={
            "class": flip_rates("class", labels, is_flipped, groups),
            "codec": flip_rates("codec", codecs, is_flipped, groups),
            "resolution": flip_rates("resolution", resolutions, is_flipped, groups),
        },
        transitions=_transitions(labels, both["top_label_after"].to_pylist()),
        verdicts=_verdicts(both),
        num_only_before=before.num_rows - both.num_rows,
        num_only_after=after.num_rows - both.num_rows,
        lonely=lonely[:MAX_LONELY],
        max_flip_rate=config.max_flip_rate,
        is_within_limit=config.max_flip_rate is None or overall.rate <= config.max_flip_rate,
        provenance={
            "command": command("diff", config),
            "date": now(),
            "before": _facts(config.before, config, before),
            "after": _facts(config.after, config, after),
            "versions": versions(),
        },
    )
    outputs.begin(output_files.COMPARISON, config.output)
    storage.publish_table(storage.join(config.output, FLIPPED_FILE), changes)
    html = render.render(
        "diff.html.j2",
        diff=result,
        changes=changes.slice(0, config.max_listed).to_pylist(),
        num_changes=changes.num_rows,
        flipped_file=FLIPPED_FILE,
    )
    storage.publish_bytes(storage.join(config.output, PAGE_FILE), html.encode())
    # Last, as the marker that the comparison is whole.
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


def flip_rates(kind: str, names: Sequence[str], is_flipped: Sequence[bool], groups: Sequence[str]) -> list[FlipRate]:
    """The flip rate of the videos of each name; `groups` names the source of each video."""
    intervals, is_flipped_B, names_B = SourceIntervals(groups), np.array(is_flipped), np.array(names)
    total = Counter(names)
    flipped = Counter(name for name, is_one in zip(names, is_flipped, strict=True) if is_one)
    return [
        FlipRate(
            name=name,
            num_videos=total[name],
            num_flipped=flipped[name],
            rate=flipped[name] / total[name],
            interval_95=intervals.share(is_flipped_B, names_B == name),
        )
        for name in video_kinds.in_order(kind, set(total))
    ]


def _groups(both: pa.Table, locations: Sequence[str]) -> list[str]:
    """Each video's source, by the manifests of the runs, the later one first."""
    group_of: dict[str, str] = {}
    for location in locations:
        path = storage.join(location, layout.MANIFEST_FILE)
        if not location.endswith(".parquet") and storage.exists(path):
            rows = storage.read_table(path, [schema.VIDEO_ID, "group"])
            group_of.update(zip(rows[schema.VIDEO_ID].to_pylist(), rows["group"].to_pylist(), strict=True))
    return [group_of.get(video_id) or video_id for video_id in both[schema.VIDEO_ID].to_pylist()]


def _read(flag: str, location: str) -> pa.Table:
    """What is compared of a classification's rows, from a run's shards or a report's file."""
    if location.endswith(".parquet"):
        files = [location] if storage.exists(location) else []
    else:
        if layout.is_run(location) and not storage.exists(storage.join(location, layout.SUMMARY_FILE)):
            raise ConfigError(f"--{flag} {location}: the job has not ended; run jobs/classify.py again")
        files = layout.part_files(location)
    try:
        tables = [storage.read_table(path, _COLUMNS) for path in files]
        rows = pa.concat_tables(tables).combine_chunks() if tables else None
    except (pa.ArrowInvalid, KeyError) as error:
        raise ConfigError(f"--{flag} {location}: holds no predictions ({error})") from error
    if rows is None or rows.column_names != _COLUMNS:
        raise ConfigError(
            f"--{flag} must be a directory that jobs/classify.py wrote, or a predictions.parquet of "
            f"jobs/evaluate.py, got {location!r}"
        )
    if pc.count_distinct(rows[schema.VIDEO_ID]).as_py() != rows.num_rows:
        raise ConfigError(f"--{flag} {location}: must hold each video once; run jobs/audit.py")
    return rows


def _relative(config: DiffConfig, tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The same rows with locations as a report may show them."""
    columns = [table["video_uri"].to_pylist() for table in tables]
    base = config.base_uri if config.base_uri is not None else common_base([uri for uris in columns for uri in uris])
    place = _COLUMNS.index("video_uri")
    return [
        table.set_column(place, "video_uri", pa.array([relative(uri, base) for uri in uris], pa.string()))
        for table, uris in zip(tables, columns, strict=True)
    ]


def _changes(both: pa.Table) -> pa.Table:
    """The rows of `schema.FLIPS`."""
    codecs, resolutions = _kinds(both)
    flips = pa.table(
        [
            both[schema.VIDEO_ID],
            both["video_uri_before"],
            both["top_label_before"],
            both["top_label_after"],
            both["confidence_before"],
            both["confidence_after"],
            both["trust_score_before"],
            both["trust_score_after"],
            both["verdict_before"],
            both["verdict_after"],
            pa.array(codecs),
            pa.array(resolutions),
        ],
        names=schema.FLIPS.names,
    )
    is_changed = pc.or_(
        pc.not_equal(flips["label_before"], flips["label_after"]),
        pc.not_equal(flips["verdict_before"], flips["verdict_after"]),
    )
    changed = flips.filter(is_changed)
    is_same_class = pc.equal(changed["label_before"], changed["label_after"])
    order = [("is_same_class", "ascending"), ("confidence_after", "descending"), ("video_uri", "ascending")]
    changed = changed.append_column("is_same_class", is_same_class.cast(pa.int8())).sort_by(order)
    return arrow.conform(changed.select(schema.FLIPS.names), schema.FLIPS, "flips")


def _kinds(both: pa.Table) -> tuple[list[str], list[str]]:
    """Codec and class of resolution of each video."""
    sizes = zip(both["width_before"].to_pylist(), both["height_before"].to_pylist(), strict=True)
    codecs = [codec or video_kinds.UNKNOWN for codec in both["video_codec_before"].to_pylist()]
    return codecs, [video_kinds.resolution(*size) for size in sizes]


def _transitions(before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    counts = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"before": pair[0], "after": pair[1], "num_videos": count} for pair, count in ordered]


def _verdicts(both: pa.Table) -> dict[str, int]:
    counts = Counter(zip(both["verdict_before"].to_pylist(), both["verdict_after"].to_pylist(), strict=True))
    return {f"{a} → {b}": counts[a, b] for a in schema.Verdict for b in schema.Verdict}


def _lonely(name: str, mine: pa.Table, others: pa.Table, other: str) -> list[UnmatchedVideo]:
    """Videos of `mine` that are not in `others`, whose location is `other`."""
    is_lonely = pc.invert(pc.is_in(mine[schema.VIDEO_ID], others[schema.VIDEO_ID].combine_chunks()))
    rows = mine.filter(is_lonely).select([schema.VIDEO_ID, "video_uri"]).sort_by("video_uri")
    run = posixpath.dirname(other) if other.endswith(".parquet") else other
    quarantined = {
        row[schema.VIDEO_ID]: row["reason"]
        for part in storage.iter_tables(layout.quarantine_files(run), [schema.VIDEO_ID, "reason"])
        for row in part.to_pylist()
    }
    return [
        UnmatchedVideo(
            video_uri=row["video_uri"],
            only_in=name,
            reason=f"quarantined: {reason}" if (reason := quarantined.get(row[schema.VIDEO_ID])) else "not asked for",
        )
        for row in rows.slice(0, MAX_LONELY).to_pylist()
    ]


def _facts(location: str, config: DiffConfig, rows: pa.Table) -> str:
    return f"{shown(location, config.output)}, {rows.num_rows} videos, ensemble {_ensembles(rows)}"


def _ensembles(rows: pa.Table) -> str:
    return ", ".join(sorted(rows["ensemble_id"].unique().to_pylist()))
