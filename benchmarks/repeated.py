"""Manifests of any number of videos, made by listing the few videos of an archive several times.

Used by other benchmark scripts.
"""

from __future__ import annotations

from pathlib import Path

from vidclf import storage
from vidclf.archive.manifest import list_archive
from vidclf.archive.video_names import VIDEO_EXTENSIONS
from vidclf.video.decode import decode_video
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan


def clips_of(archive: Path) -> list[Path]:
    """Paths of the videos in an archive that can be decoded (the sample archive contains broken ones too). Exits with
    an error if there is none."""
    clips = [path.resolve() for path in sorted(archive.rglob("*.*")) if path.suffix[1:] in VIDEO_EXTENSIONS]
    whole = [clip for clip in clips if _is_whole(clip)]
    if not whole:
        raise SystemExit(f"--archive {archive}: contains no video that can be decoded")
    return whole


def _is_whole(clip: Path) -> bool:
    """Whether one frame of the video can be decoded."""
    transform = FrameTransform(resize_size=224, crop_size=224, interpolation="bilinear")
    try:
        decode_video(str(clip), SamplingPlan(num_frames=1), transform)
    except VideoRejected:
        return False
    return True


def repeat(clips: list[Path], times: int, folder: Path) -> str:
    """Write a manifest that lists each clip `times` times, under the distinct names of symbolic links in the new
    directory `folder`. Returns the path of the manifest."""
    folder.mkdir(parents=True)
    for turn in range(times):
        (folder / f"turn{turn}").mkdir()
        for number, clip in enumerate(clips):
            (folder / f"turn{turn}" / f"{number:05}{clip.suffix}").symlink_to(clip)
    manifest = str(folder / "manifest.parquet")
    storage.publish_table(manifest, list_archive(str(folder), labelled=False).manifest)
    return manifest
