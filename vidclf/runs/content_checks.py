"""What the files behind a run's rows were when they were decoded: which have changed since, and which
are the same as another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.arrow import conform
from vidclf.credentials import is_masked
from vidclf.progress import ProgressLine
from vidclf.runs import layout
from vidclf.runs.layout import DUPLICATES_FILE
from vidclf.runs.state import one_array, repeated, rows_of
from vidclf.schema import DUPLICATES, VIDEO_ID
from vidclf.video import source
from vidclf.video.decoded_video import FileFingerprint
from vidclf.video.digest import is_same
from vidclf.video.rejection import VideoRejected

STAT_THREADS = 32
"""Files looked at at a time; each is a round trip to a file server or an object store."""


def stale_videos(run: str) -> tuple[list[str], list[str]]:
    """Ids of a run's ok videos whose file has changed under the same name, and of those whose file cannot
    be looked at (gone, or no permission), which says nothing about them.

    A file of the same size and time of modification is taken to be the same; of others the digest
    decides.
    """
    rows = _openable(run, rows_of(run, [VIDEO_ID, "video_uri", "size_bytes", "modified", "content_digest"]))
    stale, gone = [], []
    done = 0
    with ProgressLine("files", rows.num_rows, "looked at") as line, ThreadPoolExecutor(STAT_THREADS) as pool:
        # A batch at a time: the pool takes on all that it is given.
        for batch in rows.to_batches(max_chunksize=1024):
            for video, is_stale in pool.map(_is_stale, batch.to_pylist()):
                if is_stale is None:
                    gone.append(video)
                elif is_stale:
                    stale.append(video)
            done += batch.num_rows
            line.update(done)
    return stale, gone


def _openable(run: str, rows: pa.Table) -> pa.Table:
    """Rows of a run with the locations of its manifest, where those of the rows lack their credentials."""
    if not any(map(is_masked, rows["video_uri"].to_pylist())):
        return rows
    manifest = storage.read_table(storage.join(run, layout.MANIFEST_FILE), [VIDEO_ID, "video_uri"])
    place = pc.index_in(rows[VIDEO_ID], manifest[VIDEO_ID].combine_chunks())
    return rows.set_column(rows.column_names.index("video_uri"), "video_uri", manifest["video_uri"].take(place))


def resized_videos(run: str, manifest: pa.Table) -> list[str]:
    """Ids of a run's ok videos that have another size in `manifest` than they had when they were decoded:
    what an index tells of changes, without looking at a file."""
    rows = rows_of(run, [VIDEO_ID, "size_bytes"])
    known = manifest.filter(pc.is_valid(manifest["size_bytes"]))
    place = pc.index_in(rows[VIDEO_ID], known[VIDEO_ID].combine_chunks())
    now = known["size_bytes"].take(place.fill_null(0)) if known.num_rows else pa.nulls(rows.num_rows, pa.int64())
    differs = pc.and_(pc.is_valid(place), pc.not_equal(now, rows["size_bytes"]))
    return list(rows[VIDEO_ID].filter(differs).to_pylist())


def _is_stale(row: dict[str, Any]) -> tuple[str, bool | None]:
    before = FileFingerprint(size_bytes=row["size_bytes"], modified=row["modified"], digest=row["content_digest"])
    try:
        with source.locate(row["video_uri"]) as file:
            return row[VIDEO_ID], not is_same(file, before)
    except (VideoRejected, OSError):
        return row[VIDEO_ID], None


def publish_duplicates(run: str, rows: pa.Table) -> pa.Table:
    """Write down which videos have the content of another one, the first by location; `schema.DUPLICATES`.

    `rows` are the `video_id`, `video_uri` and `content_digest` of the run's ok videos. Without
    duplicates there is no file.
    """
    path = storage.join(run, DUPLICATES_FILE)
    rows = rows.filter(pc.is_in(rows["content_digest"], repeated(one_array([rows], "content_digest"))))
    rows = rows.sort_by([("content_digest", "ascending"), ("video_uri", "ascending")])
    digests = rows["content_digest"].to_pylist()
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    originals = rows.take(pa.array([first[digest] for digest in digests], pa.int64()))
    manifest = storage.read_table(storage.join(run, layout.MANIFEST_FILE), [VIDEO_ID, "split"])
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
