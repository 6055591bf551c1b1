"""Checks of a run's source files: files that changed after decoding, and files with identical content.

Both compare with the size, modification time and content digest that decoding stored in the run's rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.arrow import conform
from vidclf.credentials import is_masked
from vidclf.progress import ProgressLine
from vidclf.runs.layout import Run
from vidclf.runs.state import one_array, repeated, rows_of
from vidclf.schema import DUPLICATES, VIDEO_ID
from vidclf.video import source
from vidclf.video.decoded_video import FileFingerprint
from vidclf.video.digest import is_same
from vidclf.video.rejection import VideoRejected

STAT_THREADS = 32
"""Number of files checked at the same time. Each check is a round trip to a file server or an object store."""


def stale_videos(run: str) -> tuple[list[str], list[str]]:
    """Ids of a run's ok videos whose file has changed, and ids of those whose file cannot be checked.

    A file with the same size and modification time counts as unchanged. For other files the content digest decides.
    A file that is gone or not readable may or may not have changed.
    """
    rows = _openable(run, rows_of(run, [VIDEO_ID, "video_uri", "size_bytes", "modified", "content_digest"]))
    stale_ids, unchecked_ids = [], []
    num_checked = 0
    with ProgressLine("files", rows.num_rows, "checked") as line, ThreadPoolExecutor(STAT_THREADS) as pool:
        # One batch at a time: the pool queues everything that `map` gets, which would be the whole run in memory.
        for batch in rows.to_batches(max_chunksize=1024):
            for video_id, is_stale in pool.map(_is_stale, batch.to_pylist()):
                if is_stale is None:
                    unchecked_ids.append(video_id)
                elif is_stale:
                    stale_ids.append(video_id)
            num_checked += batch.num_rows
            line.update(num_checked)
    return stale_ids, unchecked_ids


def _openable(run: str, rows: pa.Table) -> pa.Table:
    """Rows of a run with locations that can be opened.

    The rows hold locations without credentials; if any of these is masked, all locations are taken from the manifest.
    """
    if not any(map(is_masked, rows["video_uri"].to_pylist())):
        return rows
    manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "video_uri"])
    position = pc.index_in(rows[VIDEO_ID], manifest[VIDEO_ID].combine_chunks())
    return rows.set_column(rows.column_names.index("video_uri"), "video_uri", manifest["video_uri"].take(position))


def resized_videos(run: str, manifest: pa.Table) -> list[str]:
    """Ids of a run's ok videos whose size in `manifest` differs from their size when they were decoded.

    Needs no access to the video files: a new manifest from `jobs/index.py` holds the current sizes.
    """
    rows = rows_of(run, [VIDEO_ID, "size_bytes"])
    sized = manifest.filter(pc.is_valid(manifest["size_bytes"]))
    position = pc.index_in(rows[VIDEO_ID], sized[VIDEO_ID].combine_chunks())
    sizes = sized["size_bytes"].take(position.fill_null(0)) if sized.num_rows else pa.nulls(rows.num_rows, pa.int64())
    is_resized = pc.and_(pc.is_valid(position), pc.not_equal(sizes, rows["size_bytes"]))
    return list(rows[VIDEO_ID].filter(is_resized).to_pylist())


def _is_stale(row: dict[str, Any]) -> tuple[str, bool | None]:
    """A video's id and whether its file has changed; None if the file cannot be opened."""
    before = FileFingerprint(size_bytes=row["size_bytes"], modified=row["modified"], digest=row["content_digest"])
    try:
        with source.locate(row["video_uri"]) as file:
            return row[VIDEO_ID], not is_same(file, before)
    except (VideoRejected, OSError):
        return row[VIDEO_ID], None


def publish_duplicates(run: str, rows: pa.Table) -> pa.Table:
    """Publish `duplicates.parquet` of a run and return its rows (`schema.DUPLICATES`).

    Of the videos with the same content digest, the first by location counts as the original; the others are the
    duplicates. `rows` holds `video_id`, `video_uri` and `content_digest` of the run's ok videos. If there are no
    duplicates, no file is written and an existing one is deleted.
    """
    path = Run(run).duplicates_file
    rows = rows.filter(pc.is_in(rows["content_digest"], repeated(one_array([rows], "content_digest"))))
    rows = rows.sort_by([("content_digest", "ascending"), ("video_uri", "ascending")])
    digests = rows["content_digest"].to_pylist()
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    originals = rows.take(pa.array([first[digest] for digest in digests], pa.int64()))
    manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "split"])
    ids = manifest[VIDEO_ID].combine_chunks()
    table = pa.table(
        {
            **{name: rows[name] for name in (VIDEO_ID, "video_uri", "content_digest")},
            "split": manifest["split"].take(pc.index_in(rows[VIDEO_ID], ids)),
            "duplicate_of": originals[VIDEO_ID],
            "duplicate_of_uri": originals["video_uri"],
            "duplicate_of_split": manifest["split"].take(pc.index_in(originals[VIDEO_ID], ids)),
        }
    )
    table = table.filter(pc.not_equal(table[VIDEO_ID], table["duplicate_of"])).select(DUPLICATES.names)
    table = conform(table, DUPLICATES, "duplicates")
    if table.num_rows:
        storage.publish_table(path, table)
    elif storage.exists(path):
        storage.delete_file(path)
    return table
