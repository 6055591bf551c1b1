"""Sections of a model card about the data: classes, and videos and sources by split."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from vidclf.ensemble import card_text
from vidclf.ensemble.card_text import NOT_RECORDED
from vidclf.ensemble.info import EnsembleInfo
from vidclf.schema import SPLITS


def counts(videos: pa.Table | None) -> dict[tuple[str | None, str | None], tuple[int, int]]:
    """Numbers of videos and of sources (recordings) by label and split; empty without a record."""
    if videos is None:
        return {}
    grouped = videos.group_by(["label", "split"]).aggregate([([], "count_all"), ("source", "count_distinct")])
    return {
        (row["label"], row["split"]): (row["count_all"], row["source_count_distinct"]) for row in grouped.to_pylist()
    }


def classes(info: EnsembleInfo, counts: Mapping[tuple[str | None, str | None], tuple[int, int]]) -> str:
    """Table of the classes, with their videos and sources in each split."""
    f1_of = info.training.get("val_f1") or {}

    def cell(name: str, split: str) -> str:
        if not counts:
            return NOT_RECORDED
        num_videos, num_sources = counts.get((name, split), (0, 0))
        return f"{num_videos} ({num_sources})"

    rows = [
        [card_text.plain(name), *(cell(name, split) for split in SPLITS), card_text.number(f1_of.get(name))]
        for name in info.classes
    ]
    head = ["class", *(f"{split}: videos (sources)" for split in SPLITS), "F1 on validation"]
    table = card_text.table(head, rows)
    return f"{table}\n\nProbabilities are in this order. A source is a recording from which videos were cut."


def data(info: EnsembleInfo, videos: pa.Table | None) -> str:
    """Table of the splits, and the digest of the data."""
    trained_on = ", ".join(
        f"{name}: {info.training.get(key, NOT_RECORDED)}"
        for name, key in (("training videos", "num_train_videos"), ("validation videos", "num_val_videos"))
    )
    lines = [f"{trained_on}. Digest of the data: {card_text.code(info.training.get('data_digest'))}."]
    if videos is None:
        return f"{lines[0]} Sources by split: {NOT_RECORDED}."
    grouped = videos.group_by("split").aggregate([([], "count_all"), ("source", "count_distinct")]).to_pylist()
    rows_of = {row["split"]: [str(row["count_all"]), str(row["source_count_distinct"])] for row in grouped}
    rows = [[split or "none", *rows_of[split]] for split in (*SPLITS, None) if split in rows_of]
    cosine = info.splits.near_duplicate_cosine if info.splits is not None else None
    lines.append(card_text.table(["split", "videos", "sources"], rows))
    lines.append(
        "A source and its near duplicates (cosine similarity of mean features from "
        f"{NOT_RECORDED if cosine is None else f'{cosine:g}'}) should lie in one split; `leakage.parquet` of the "
        "training lists what lies in two."
    )
    return "\n\n".join(lines)
