"""Changes between the manifest of a run and a newer one: videos that were removed, and videos at another location."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.runs.content_checks import STAT_THREADS, is_stale
from vidclf.runs.layout import Run
from vidclf.runs.state import rows_of, without
from vidclf.schema import VIDEO_ID


def removed_videos(run: str, manifest: pa.Table) -> pa.Table:
    """Return `video_id` and `video_uri` of the videos of a run that the newer `manifest` does not hold."""
    before = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "video_uri"])
    return before.filter(pc.is_in(before[VIDEO_ID], without(before[VIDEO_ID].combine_chunks(), manifest[VIDEO_ID])))


def check_removed(run: str, manifest: pa.Table, *, drops_removed: bool) -> None:
    """Raise ConfigError if the newer `manifest` lacks videos of a run, unless they may be dropped."""
    removed = removed_videos(run, manifest)
    if removed.num_rows and not drops_removed:
        raise ConfigError(
            f"--output {run}: holds {counted(removed.num_rows, 'video')} that this manifest does not (for one "
            f"{masked(removed['video_uri'][0].as_py())}); --drop-removed deletes their results. If the archive was "
            "moved, index it again with --continue-from and --root"
        )


def replaced_videos(run: str, manifest: pa.Table) -> list[str]:
    """Return the ids of the finished videos whose file in the newer `manifest` is at another location than in the run's
    own, and is not the file that was decoded.

    Size and modification time decide if they are equal, otherwise the content digest. Raises ConfigError if a file at a
    new location cannot be read, since its results can then be neither kept nor dropped.
    """
    before = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "video_uri"])
    pairs = zip(before[VIDEO_ID].to_pylist(), before["video_uri"].to_pylist(), strict=True)
    place = {video: masked(uri) for video, uri in pairs}
    pairs = zip(manifest[VIDEO_ID].to_pylist(), manifest["video_uri"].to_pylist(), strict=True)
    uri_of = {video: uri for video, uri in pairs if place.get(video, masked(uri)) != masked(uri)}
    if not uri_of:
        return []
    rows = rows_of(run, [VIDEO_ID, "size_bytes", "modified", "content_digest"])
    moved = rows.filter(pc.is_in(rows[VIDEO_ID], pa.array(list(uri_of), pa.string()))).to_pylist()
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        checked = list(pool.map(is_stale, [{**row, "video_uri": uri_of[row[VIDEO_ID]]} for row in moved]))
    unreadable = [masked(uri_of[video]) for video, stale in checked if stale is None]
    if unreadable:
        raise ConfigError(
            f"--output {run}: {counted(len(unreadable), 'video is', 'videos are')} at a new location that cannot be "
            f"read (for one {unreadable[0]}); make it readable, or index the archive as it is now"
        )
    return [video for video, stale in checked if stale]
