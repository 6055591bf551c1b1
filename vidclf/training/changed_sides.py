"""Videos that are in another split than for the ensemble that a training job replaces."""

from __future__ import annotations

from collections import Counter

from vidclf.ensemble.split_record import recorded_splits
from vidclf.features.feature_set import FeatureSet
from vidclf.number_words import counted


def changed_sides(features: FeatureSet, ensemble: str) -> str | None:
    """A line on the videos whose split differs from that in the `splits.parquet` of the directory `ensemble`; None if
    there is no such file or no such video."""
    before = recorded_splits(ensemble)
    videos = zip(features.video_ids, features.video_uris, features.splits, strict=True)
    moves = [(f"{before[video]} to {split}", uri) for video, uri, split in videos if before.get(video, split) != split]
    if not moves:
        return None
    counts = ", ".join(f"{count} from {move}" for move, count in sorted(Counter(move for move, _ in moves).items()))
    return (
        f"splits: {counted(len(moves), 'video')} changed side since the ensemble that this one replaces ({counts}; one "
        f"is {moves[0][1]}); the scores of the two ensembles are not of the same videos"
    )
