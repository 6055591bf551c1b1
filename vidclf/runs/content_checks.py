"""Checks of the video files of a run directory: files changed after decoding, identical files.

The checks compare with the file size, the modification time and the content digest that the run's rows have stored
since decoding.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.arrow import conform
from vidclf.progress import ProgressLine
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.runs.state import one_array, repeated, rows_of
from vidclf.schema import DUPLICATES, VIDEO_ID
from vidclf.video import source
from vidclf.video.decoded_video import FileFingerprint
from vidclf.video.digest import is_same
from vidclf.video.rejection import VideoRejected

STAT_THREADS = 32
"""Number of video files checked at the same time. Each check waits for an answer from a file server or an object
store."""


def stale_videos(run: str) -> tuple[list[str], list[str]]:
    """Find the ok videos of a run directory whose files have changed since decoding.

    Returns two lists of video ids: those whose file has changed, and those whose file is gone or not readable, so that
    a change can be neither found nor excluded. A file with the same size and modification time counts as unchanged;
    otherwise its content digest decides.
    """
    rows = _openable(run, rows_of(run, [VIDEO_ID, "video_uri", "size_bytes", "modified", "content_digest"]))
    stale_ids, unchecked_ids = [], []
    num_checked = 0
    with ProgressLine("files", rows.num_rows, "checked") as line, ThreadPoolExecutor(STAT_THREADS) as pool:
        # One batch at a time: the pool queues everything that `map` gets, which would be the whole run in memory.
        for batch in rows.to_batches(max_chunksize=1024):
            for video_id, has_changed in pool.map(is_stale, batch.to_pylist()):
                if has_changed is None:
                    unchecked_ids.append(video_id)
                elif has_changed:
                    stale_ids.append(video_id)
            num_checked += batch.num_rows
            line.update(num_checked)
    return stale_ids, unchecked_ids


def _openable(run: str, rows: pa.Table) -> pa.Table:
    """The `rows` of a run directory as a table whose `video_uri` values can be used to open the files.

    They are those of the run's manifest: the rows hold locations with credentials masked, and of the day on which the
    video was decoded.
    """
    if not rows.num_rows:
        return rows
    manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "video_uri"])
    rows = rows.filter(pc.is_in(rows[VIDEO_ID], manifest[VIDEO_ID].combine_chunks()))
    position = pc.index_in(rows[VIDEO_ID], manifest[VIDEO_ID].combine_chunks())
    return rows.set_column(rows.column_names.index("video_uri"), "video_uri", manifest["video_uri"].take(position))


def resized_videos(run: str, manifest: pa.Table) -> list[str]:
    """Ids of the ok videos in a run directory whose file size in `manifest` differs from the size at decoding.

    Opens no video file: a new manifest from `jobs/index.py` holds the current sizes. Videos without a size in
    `manifest` are skipped.
    """
    rows = rows_of(run, [VIDEO_ID, "size_bytes"])
    sized = manifest.filter(pc.is_valid(manifest["size_bytes"]))
    position = pc.index_in(rows[VIDEO_ID], sized[VIDEO_ID].combine_chunks())
    sizes = sized["size_bytes"].take(position.fill_null(0)) if sized.num_rows else pa.nulls(rows.num_rows, pa.int64())
    is_resized = pc.and_(pc.is_valid(position), pc.not_equal(sizes, rows["size_bytes"]))
    return list(rows[VIDEO_ID].filter(is_resized).to_pylist())


def is_stale(row: dict[str, Any]) -> tuple[str, bool | None]:
    """Return the id of the video in a result row, and whether its file has changed since decoding; None instead of the
    truth value if the file cannot be opened."""
    before = FileFingerprint(size_bytes=row["size_bytes"], modified=row["modified"], digest=row["content_digest"])
    try:
        with source.locate(row["video_uri"]) as file:
            return row[VIDEO_ID], not is_same(file, before)
    except (VideoRejected, OSError):
        return row[VIDEO_ID], None


def publish_duplicates(run: str, rows: pa.Table) -> pa.Table:
    """Write `duplicates.parquet` of a run directory, which lists videos with the same content as another video, and
    return its rows as a table (`schema.DUPLICATES`).

    Of several videos with the same content digest, the first by location counts as the original; the others are
    duplicates. `rows` holds `video_id`, `video_uri` and `content_digest` of all ok videos. If there are no duplicates,
    no file is written and an existing one is deleted.
    """
    path = Run(run).duplicates_file
    rows = NewestManifest(run, ("video_uri",)).join(rows)
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
