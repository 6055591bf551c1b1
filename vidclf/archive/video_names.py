"""File names of videos and lists, and names of files and directories that belong to the system, not to an archive."""

from __future__ import annotations

import fnmatch
import posixpath

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "264", "265", "3g2", "3gp", "3gpp", "apng", "asf", "avi", "avif", "divx", "dv", "evo", "f4v", "flv", "gif",
    "h264", "h265", "hevc", "insv", "ismv", "ivf", "lrv", "m1v", "m2t", "m2ts", "m2v", "m4s", "m4v", "mk3d", "mkv",
    "mod", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "obu", "ogm", "ogv", "ps", "qt", "rm", "rmvb", "swf", "tod",
    "trp", "ts", "vob", "webm", "wmv", "y4m",
    # Formats that are not opened: each of their files gets a row with the reason.
    "bik", "dav", "gxf", "nsv", "nut", "r3d", "smk", "wtv",
))
# fmt: on
"""File name extensions, in lower case, of the files that count as videos when a directory is listed."""

LIST_EXTENSIONS = frozenset(("parquet", "csv", "tsv", "jsonl", "ndjson", "json", "txt"))
"""File name extensions of the files that are read as a list of videos."""

_SYSTEM_DIRECTORIES = {
    "#recycle": "recycle bins",
    "@recycle": "recycle bins",
    "$recycle.bin": "recycle bins",
    "network trash folder": "recycle bins",
    "@eadir": "previews of a NAS",
    "@tmp": "system directories",
    "@sharebin": "system directories",
    "#snapshot": "snapshots",
    "~snapshot": "snapshots",
    "@recently-snapshot": "snapshots",
    "lost+found": "system directories",
    "system volume information": "system directories",
    "temporary items": "system directories",
    "__macosx": "system directories",
}
"""Kind of each directory that a NAS box or a desktop system makes by itself, by its name in lower case."""

HIDDEN = "hidden files and directories"
"""Kind of the files and directories whose names begin with a dot, such as `._a.mp4`, `.Trash-1000` and `.git`."""


def extension(path: str) -> str:
    """Return the file name extension of a path or URI, in lower case and without the dot; empty if it has none."""
    name = posixpath.basename(path)
    return name.rsplit(".", 1)[1].lower() if "." in name else ""


def system_kind(name: str, *, is_directory: bool) -> str | None:
    """Return the kind of a file or directory that is no part of an archive, judged by its name; None if it is a part.

    The kind is a plural in words, such as "recycle bins".
    """
    if name.startswith("."):
        return HIDDEN
    return _SYSTEM_DIRECTORIES.get(name.lower()) if is_directory else None


def matches(relative: str, patterns: tuple[str, ...]) -> bool:
    """Return whether one of the glob patterns fits a path below the archive.

    A pattern without a slash is compared with every name in the path. A pattern with a slash is compared with the
    whole path and with the directories above it; its `*` stands for slashes too.
    """
    names = relative.split("/")
    parents = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
    return any(
        any(fnmatch.fnmatchcase(text, pattern.strip("/")) for text in (parents if "/" in pattern else names))
        for pattern in patterns
    )
