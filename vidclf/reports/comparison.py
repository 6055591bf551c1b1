"""Comparison of two classifications of the same videos: how often, and for which videos, the class changed.

Rows are matched by video id. The module is free of torch, Ray and scikit-learn, so that `jobs/diff.py` starts quickly.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import arrow, schema, storage
from vidclf.config import DiffConfig
from vidclf.credentials import common_base, relative
from vidclf.errors import ConfigError
from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.reports import video_kinds
from vidclf.runs.layout import Run
from vidclf.runs.state import check_unique_rows

MAX_UNMATCHED = 200
"""Largest number of listed videos, in diff.json and on the page, that only one of the two classifications contains."""

NOT_IN_INPUT = "not in its input"
"""Reason shown for a video that the other classification has neither classified nor rejected."""

SIDES = ("before", "after")
"""Names of the two compared classifications, which are also the flags of `jobs/diff.py` for their locations."""

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
    "content_digest",
    "ensemble_id",
]
"""Columns of a classification that the comparison reads."""

_SUBLABEL_COLUMNS = ["top_sublabel", "answer_level"]
"""Further columns, which classifications of earlier versions lack."""


@dataclass(frozen=True, kw_only=True)
class FlipRate:
    """Share of a group of videos whose most probable class differs between the two classifications (flipped videos)."""

    name: str
    """name of the group, such as a class, a codec or `1080p`"""
    num_videos: int
    num_flipped: int
    rate: float
    """`num_flipped` / `num_videos`"""
    interval_95: Interval | None
    """95 % interval that counts sources (recordings that videos are cut from), which come from the manifest of a
    classification; a video without a known source counts as its own"""


@dataclass(frozen=True, kw_only=True)
class UnmatchedVideo:
    """A video that only one of the two compared classifications contains."""

    video_uri: str
    only_in: str
    """the classification that contains the video: before or after"""
    reason: str
    """why the other classification has no prediction: the reason of its rejection, or that the video was not in its
    input"""


@dataclass(frozen=True, kw_only=True)
class SublabelChanges:
    """Changes of the sublabels (finer classes below a class) between the two classifications."""

    num_videos: int
    """number of videos with the same most probable class and a most probable sublabel in both"""
    num_changed: int
    """number of these whose most probable sublabel changed"""
    levels: dict[str, int]
    """number of videos per change of the level of the answer, such as `sublabel → class`; the others are absent"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two classifications (tables with the columns `_COLUMNS`) and the figures of the videos in both."""

    before: pa.Table
    after: pa.Table

    @classmethod
    def read(cls, config: DiffConfig) -> Comparison:
        """Read both classifications, with video locations as a report may show them: relative and without credentials.

        Raises ConfigError if one of them is not a finished classification, or if they share no video.
        """
        tables = [_read(flag, getattr(config, flag)) for flag in SIDES]
        before, after = _relative(config, tables)
        comparison = cls(before=before, after=after)
        if not comparison.num_videos:
            raise ConfigError(
                f"--after {config.after}: must share a video with {config.before}, shares none; one holds "
                f"{_example(tables[1])}, the other {_example(tables[0])}; videos are matched by video_id, which a "
                "moved archive keeps: classify the same archive, or index it with --continue-from and --root OLD=NEW"
            )
        return comparison

    @cached_property
    def both(self) -> pa.Table:
        """Table with one row per video in both classifications; all columns but the id end in `_before` or `_after`."""
        return self.before.join(
            self.after, schema.VIDEO_ID, join_type="inner", left_suffix="_before", right_suffix="_after"
        )

    @property
    def num_videos(self) -> int:
        """Number of videos in both classifications."""
        return int(self.both.num_rows)

    @cached_property
    def labels(self) -> tuple[list[str], list[str]]:
        """Two lists, before and after: the most probable class of each video in both classifications."""
        return self.both["top_label_before"].to_pylist(), self.both["top_label_after"].to_pylist()

    @cached_property
    def is_flipped(self) -> list[bool]:
        """List with one entry per video in both classifications: whether its most probable class changed."""
        return [before != after for before, after in zip(*self.labels, strict=True)]

    @cached_property
    def codecs(self) -> list[str]:
        """Video codec of each video in both classifications, as recorded by the first one."""
        return [codec or video_kinds.UNKNOWN for codec in self.both["video_codec_before"].to_pylist()]

    @cached_property
    def resolutions(self) -> list[str]:
        """Resolution group, such as `1080p`, of each video in both classifications, as recorded by the first one."""
        widths, heights = self.both["width_before"].to_pylist(), self.both["height_before"].to_pylist()
        return [video_kinds.resolution(width, height) for width, height in zip(widths, heights, strict=True)]

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """Changes of class, as dicts with the class before, the class after and the number of videos.

        The most frequent change comes first.
        """
        counts = Counter(pair for pair in zip(*self.labels, strict=True) if pair[0] != pair[1])
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return [{"before": pair[0], "after": pair[1], "num_videos": count} for pair, count in ordered]

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of videos per pair of verdicts; the dict's keys are texts such as `accepted → abstained`."""
        pairs = zip(self.both["verdict_before"].to_pylist(), self.both["verdict_after"].to_pylist(), strict=True)
        counts = Counter(pairs)
        return {f"{a} → {b}": counts[a, b] for a in schema.Verdict for b in schema.Verdict}

    @property
    def sublabels(self) -> SublabelChanges:
        """Changes of the sublabels (finer classes) and of the levels at which videos are answered."""
        names = zip(
            self.both["top_sublabel_before"].to_pylist(), self.both["top_sublabel_after"].to_pylist(), strict=True
        )
        pairs = [(*pair, is_other) for pair, is_other in zip(names, self.is_flipped, strict=True)]
        compared = [before != after for before, after, is_other in pairs if before and after and not is_other]
        levels = zip(
            self.both["answer_level_before"].to_pylist(), self.both["answer_level_after"].to_pylist(), strict=True
        )
        counts = Counter(pair for pair in levels if None not in pair and pair[0] != pair[1])
        return SublabelChanges(
            num_videos=len(compared),
            num_changed=sum(compared),
            levels={f"{a} → {b}": counts[a, b] for a in schema.AnswerLevel for b in schema.AnswerLevel if counts[a, b]},
        )

    @property
    def changes(self) -> pa.Table:
        """Table of `schema.FLIPS`: the videos whose class or verdict changed.

        Videos with another class come first, then those with only another verdict; both sorted by falling confidence
        after.
        """
        both = self.both
        values = [
            both[schema.VIDEO_ID],
            both["video_uri_before"],
            *(
                both[f"{name}_{side}"]
                for name in ("top_label", "confidence", "trust_score", "verdict")
                for side in SIDES
            ),
            pa.array(self.codecs),
            pa.array(self.resolutions),
        ]
        rows = pa.table(values, names=schema.FLIPS.names)
        is_same_class = pc.equal(rows["label_before"], rows["label_after"])
        is_changed = pc.or_(pc.invert(is_same_class), pc.not_equal(rows["verdict_before"], rows["verdict_after"]))
        order = [("is_same_class", "ascending"), ("confidence_after", "descending"), ("video_uri", "ascending")]
        rows = rows.append_column("is_same_class", is_same_class.cast(pa.int8())).filter(is_changed).sort_by(order)
        return arrow.conform(rows.select(schema.FLIPS.names), schema.FLIPS, "flips")

    def flip_rates(self, groups: Sequence[str], splits: Sequence[str]) -> dict[str, list[FlipRate]]:
        """Lists of flip rates under the names `class`, `codec`, `resolution` and `training`, one per group of videos.

        `groups` names the source (recording) of each video that is in both classifications, `splits` its use in the
        training of the two ensembles (`trained_on.uses`).
        """
        names = {"class": self.labels[0], "codec": self.codecs, "resolution": self.resolutions, "training": splits}
        return {kind: flip_rates(kind, values, self.is_flipped, groups) for kind, values in names.items()}

    def unmatched(self, config: DiffConfig) -> list[UnmatchedVideo]:
        """List of the videos that only one of the two classifications contains, at most `MAX_UNMATCHED` in total."""
        videos = [
            *_unmatched("before", self.before, self.after, config.after),
            *_unmatched("after", self.after, self.before, config.before),
        ]
        return videos[:MAX_UNMATCHED]


def flip_rates(kind: str, names: Sequence[str], is_flipped: Sequence[bool], groups: Sequence[str]) -> list[FlipRate]:
    """One flip rate (share of videos whose class changed) per group of videos.

    `names`, `is_flipped` and `groups` have one entry per video: its group, whether its class changed, and its source
    (recording). The list is sorted for display by `kind`, the type of group, such as `resolution`.
    """
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


def sources(both: pa.Table, locations: Sequence[str]) -> list[str]:
    """Name of the source (recording) of each video in the table `both`, looked up in the manifests at `locations`.

    `locations` are output directories; a later one takes precedence. A video that no manifest lists is its own source.
    """
    group_of: dict[str, str] = {}
    for location in locations:
        path = Run(location).manifest_file
        if not location.endswith(".parquet") and storage.exists(path):
            rows = storage.read_table(path, [schema.VIDEO_ID, "group"])
            group_of.update(zip(rows[schema.VIDEO_ID].to_pylist(), rows["group"].to_pylist(), strict=True))
    return [group_of.get(video_id) or video_id for video_id in both[schema.VIDEO_ID].to_pylist()]


def _read(flag: str, location: str) -> pa.Table:
    """Table of the compared columns of a classification; `location` is its directory or a report's Parquet file.

    Raises ConfigError, with the name `flag`, if `location` does not hold each video of a finished classification once.
    """
    if location.endswith(".parquet"):
        files = [location] if storage.exists(location) else []
    else:
        if Run(location).exists() and not Run(location).is_finished():
            raise ConfigError(f"--{flag} {location}: the job has not ended; run jobs/classify.py again")
        files = Run(location).shards()
    names, known = [*_COLUMNS, *_SUBLABEL_COLUMNS], schema.stored_predictions(1)
    columns = pa.schema([known.field(name).with_nullable(name in _SUBLABEL_COLUMNS) for name in names])
    try:
        tables = [table.select(columns.names) for table in storage.iter_tables_of(files, columns)]
        rows = pa.concat_tables(tables).combine_chunks() if tables else None
    except (pa.ArrowInvalid, KeyError) as error:
        raise ConfigError(f"--{flag} {location}: holds no predictions ({error})") from error
    if rows is None or rows.column_names != names:
        raise ConfigError(
            f"--{flag} must be a directory that jobs/classify.py wrote, or a predictions.parquet of "
            f"jobs/evaluate.py, got {location!r}"
        )
    if not location.endswith(".parquet"):
        check_unique_rows(location, f"--{flag}")
    elif pc.count_distinct(rows[schema.VIDEO_ID]).as_py() != rows.num_rows:
        raise ConfigError(f"--{flag} {location}: every video must have one row, some have several; evaluate again")
    return rows


def _relative(config: DiffConfig, tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables of both classifications, with video locations relative to a common base directory.

    The base is the directory that all videos share, or `--base-uri`.
    """
    columns = [table["video_uri"].to_pylist() for table in tables]
    given = config.base_uri
    base = storage.canonical(given) if given is not None else common_base([uri for uris in columns for uri in uris])
    place = _COLUMNS.index("video_uri")
    return [
        table.set_column(place, "video_uri", pa.array([relative(uri, base) for uri in uris], pa.string()))
        for table, uris in zip(tables, columns, strict=True)
    ]


def _example(videos: pa.Table) -> str:
    """Location of one of the videos in a table, for a message."""
    return str(pc.min(videos["video_uri"]).as_py() or "no video")


def _unmatched(side: str, rows: pa.Table, other_rows: pa.Table, other_location: str) -> list[UnmatchedVideo]:
    """List of videos in `rows` that the other classification, at `other_location`, lacks; at most `MAX_UNMATCHED`.

    `side` is the name of the classification of `rows`: before or after.
    """
    is_unmatched = pc.invert(pc.is_in(rows[schema.VIDEO_ID], other_rows[schema.VIDEO_ID].combine_chunks()))
    unmatched = rows.filter(is_unmatched).select([schema.VIDEO_ID, "video_uri"]).sort_by("video_uri")
    run = posixpath.dirname(other_location) if other_location.endswith(".parquet") else other_location
    quarantined = {
        row[schema.VIDEO_ID]: row["reason"]
        for part in storage.iter_tables(Run(run).quarantine_shards(), [schema.VIDEO_ID, "reason"])
        for row in part.to_pylist()
    }
    return [
        UnmatchedVideo(
            video_uri=row["video_uri"],
            only_in=side,
            reason=f"quarantined: {reason}" if (reason := quarantined.get(row[schema.VIDEO_ID])) else NOT_IN_INPUT,
        )
        for row in unmatched.slice(0, MAX_UNMATCHED).to_pylist()
    ]
