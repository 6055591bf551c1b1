"""Lines about the videos of a training job: those without a label, and classes that a split lacks."""

from __future__ import annotations

from vidclf.features.feature_set import FeatureSet

_WORDS = {"val": "validation", "test": "test"}

_NUM_NAMED = 5


def labelled(features: FeatureSet) -> FeatureSet:
    """Return the labelled videos of a feature set; the whole set if no video has a label, which is another fault."""
    rows = [row for row, label in enumerate(features.labels) if label is not None]
    return features.take(rows) if 0 < len(rows) < len(features.labels) else features


def unlabelled_line(features: FeatureSet) -> str | None:
    """Return a line on the videos that `labelled` leaves out, with one location; None if there are none."""
    videos = zip(features.labels, features.video_uris, strict=True)
    unlabelled = [uri for label, uri in videos if label is None]
    num_videos = len(features.labels)
    if not unlabelled or len(unlabelled) == num_videos:
        return None
    are = "has no label and is" if len(unlabelled) == 1 else "have no label and are"
    return f"labels: {len(unlabelled)} of {num_videos} videos {are} left out (for one {unlabelled[0]})"


def gap_lines(features: FeatureSet) -> list[str]:
    """Return a line for each of validation and test that some classes have no videos in, if other classes do."""
    classes = sorted({label for label in features.labels if label is not None})
    lines = []
    for split, word in _WORDS.items():
        pairs = zip(features.labels, features.splits, strict=True)
        present = {label for label, name in pairs if name == split}
        absent = [name for name in classes if name not in present]
        if present and absent:
            more = f" and {len(absent) - _NUM_NAMED} more" if len(absent) > _NUM_NAMED else ""
            shown = ", ".join(map(repr, absent[:_NUM_NAMED])) + more
            have = "classes has" if len(absent) == 1 else "classes have"
            lines.append(
                f"splits: {len(absent)} of {len(classes)} {have} no {word} videos ({shown}), so that nothing is "
                "measured of them there; add sources of them, or give other fractions with --split"
            )
    return lines
