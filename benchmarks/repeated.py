"""Manifests of as many videos as a measurement needs, from the few that an archive has."""

from __future__ import annotations

from pathlib import Path

from vidclf import storage
from vidclf.archive.manifest import VIDEO_EXTENSIONS, list_archive
from vidclf.video.decode import decode_video
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan


def clips_of(archive: Path) -> list[Path]:
    """The archive's videos that can be decoded: the sample archive has broken ones too."""
    clips = [path.resolve() for path in sorted(archive.rglob("*.*")) if path.suffix[1:] in VIDEO_EXTENSIONS]
    whole = [clip for clip in clips if _is_whole(clip)]
    if not whole:
        raise SystemExit(f"--archive {archive}: holds no video")
    return whole


def _is_whole(clip: Path) -> bool:
    transform = FrameTransform(resize_size=224, crop_size=224, interpolation="bilinear")
    try:
        decode_video(str(clip), SamplingPlan(num_frames=1), transform)
    except VideoRejected:
        return False
    return True


def repeat(clips: list[Path], times: int, folder: Path) -> str:
    """A manifest that lists each clip `times` times, as symbolic links of distinct names below `folder`."""
    folder.mkdir(parents=True)
    for turn in range(times):
        (folder / f"turn{turn}").mkdir()
        for number, clip in enumerate(clips):
            (folder / f"turn{turn}" / f"{number:05}{clip.suffix}").symlink_to(clip)
    manifest = str(folder / "manifest.parquet")
    storage.publish_table(manifest, list_archive(str(folder), labelled=False).manifest)
    return manifest
