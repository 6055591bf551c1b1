"""Manifests of as many videos as a measurement needs, from the few that an archive has."""

from __future__ import annotations

from pathlib import Path

from vidclf import storage
from vidclf.archive.manifest import VIDEO_EXTENSIONS, list_archive


def clips_of(archive: Path) -> list[Path]:
    """The archive's videos, the broken ones left out."""
    clips = [path for path in sorted(archive.rglob("*.*")) if path.suffix[1:] in VIDEO_EXTENSIONS]
    whole = [path.resolve() for path in clips if "broken" not in str(path)]
    if not whole:
        raise SystemExit(f"--archive {archive}: holds no video")
    return whole


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
