"""Videos that a report cannot score: counted by reason, with the location of one video for each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from vidclf import credentials
from vidclf.archive.label_spelling import spelling_key
from vidclf.errors import ConfigError

NO_LABEL = "without a label"
NOT_IN_MANIFEST = "not in the manifest"
NOT_CLASSIFIED = "with a label but without a prediction or a reject reason"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Videos that are not scored for one reason."""

    reason: str
    """words that follow "3 videos", such as "without a label" """
    num_videos: int
    video_uri: str
    """location of one of them, without credentials"""

    def words(self, base: str | None = None) -> str:
        """The count, the reason and one location, which is relative to the directory `base` unless that is None."""
        shown = self.video_uri if base is None else credentials.relative(self.video_uri, base)
        return f"{'1 video' if self.num_videos == 1 else f'{self.num_videos} videos'} {self.reason} (for one {shown})"


def unknown_label(label: str, classes: Sequence[str]) -> str:
    """The reason for videos with a label that is no class of the ensemble. A class with a similar name is suggested."""
    alike = [name for name in classes if spelling_key(name) == spelling_key(label)]
    similar = alike or difflib.get_close_matches(label, classes, n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    return f"with the label {label!r}, which is no class of the ensemble{hint}"


def check_none(left_out: Sequence[LeftOut], flag: str) -> None:
    """Raise ConfigError if videos are left out, for `--strict`. `flag` and its value name the labels."""
    if left_out:
        raise ConfigError(
            f"{flag}: with --strict every video must be scored, which is not possible for {_listed(left_out)}; correct "
            "the labels, or leave out --strict"
        )


def nothing_to_score(left_out: Sequence[LeftOut], classes: Sequence[str]) -> ConfigError:
    """The error for an evaluation in which no video can be scored."""
    reasons = {entry.reason: entry for entry in left_out}
    if len(left_out) == 2 and {NOT_IN_MANIFEST, NOT_CLASSIFIED} == set(reasons):
        return ConfigError(
            f"no classified video is in the manifest: it has {reasons[NOT_CLASSIFIED].video_uri}, the predictions have "
            f"{reasons[NOT_IN_MANIFEST].video_uri}; give the manifest of the classified archive, or, if the archive is "
            "mounted elsewhere now, index it with --continue-from and --root OLD=NEW"
        )
    what = _listed(left_out) or "there are no videos"
    return ConfigError(f"no video can be scored: {what}; the classes of the ensemble are {', '.join(classes)}")


def _listed(left_out: Sequence[LeftOut]) -> str:
    more = f", and {len(left_out) - 5} more reasons" if len(left_out) > 5 else ""
    return ", ".join(entry.words() for entry in left_out[:5]) + more
