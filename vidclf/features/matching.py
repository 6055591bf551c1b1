"""Checks that several sets of features belong to the same videos and frames.

The sets are features by several backbones, or the features of fewer frames for a first look at the videos.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.schema import VIDEO_ID


def check_specs(locations: Sequence[str], specs: Sequence[FeatureSpec]) -> None:
    """Raise ConfigError unless all `specs` have different backbones and the same sampling of frames.

    `locations` are the directories of the features, for messages.
    """
    names = [spec.backbone for spec in specs]
    if len(set(names)) != len(names):
        raise ConfigError(f"--features {','.join(locations)}: must be of different backbones, are of {names}")
    for location, spec in zip(locations, specs, strict=True):
        if spec.frames != specs[0].frames:
            raise ConfigError(
                f"--features {location}: must be of the same frames as {locations[0]}, but {spec.frames} is not "
                f"{specs[0].frames}; extract both with the same --sampling and --num-frames, best in one job"
            )


def check_videos(locations: Sequence[str], tables: Sequence[pa.Table], columns: Sequence[str]) -> None:
    """Raise ConfigError, naming a video, unless all tables hold the same videos with equal values in `columns`.

    Each table has one row per video and the columns `video_id`, `video_uri` and `columns`. The order of rows may
    differ. `locations` are for messages.
    """
    first, first_location = tables[0], locations[0]
    for location, table in zip(locations[1:], tables[1:], strict=True):
        _check_holds(location, table, first_location, first)
        _check_holds(first_location, first, location, table)
        table = table.take(pc.index_in(first[VIDEO_ID].combine_chunks(), table[VIDEO_ID].combine_chunks()))
        for name in columns:
            pairs = zip(first[name].to_pylist(), table[name].to_pylist(), strict=True)
            differing = [(row, expected, value) for row, (expected, value) in enumerate(pairs) if expected != value]
            if differing:
                row, expected, value = differing[0]
                raise ConfigError(
                    f"--features {location}: {name} must equal that of {first_location}, differs for {len(differing)} "
                    f"videos (for example {first['video_uri'][row]}: {value!r}, there {expected!r}); extract both from "
                    "one archive and manifest"
                )


def _check_holds(other_location: str, other: pa.Table, location: str, videos: pa.Table) -> None:
    """Raise ConfigError if the features at `location` (table `videos`) lack a video that the features at
    `other_location` (table `other`) hold."""
    missing = other.filter(pc.invert(pc.is_in(other[VIDEO_ID], videos[VIDEO_ID].combine_chunks())))
    if missing.num_rows:
        raise ConfigError(
            f"--features {location}: must hold the videos of {other_location}, lacks {missing.num_rows} of them (for "
            f"example {missing['video_uri'][0]}); extract all backbones in one job, or continue it"
        )


def check_sets(locations: Sequence[str], sets: Sequence[FeatureSet]) -> None:
    """Raise ConfigError unless one ensemble can be trained on all feature sets together.

    The sets must pass `check_specs` and hold the same videos with equal labels, sources (recordings), splits, contents
    and numbers of frames. The videos of all sets are then in the same order.
    """
    check_specs(locations, [features.spec for features in sets])
    tables = [_compared_columns(features) for features in sets]
    check_videos(locations, tables, tables[0].column_names[1:])


def first_look(location: str, look: FeatureSet, features: FeatureSet) -> FeatureSet:
    """Return the features of a first look (`look`), restricted to the videos of `features` and in their order.

    `look` holds features of fewer frames of the same videos, read from `location`; early decisions are fitted on them.
    Raises ConfigError if it differs from `features` in any setting but the sampling of frames, lacks a video, or was
    made from a file that has changed.
    """
    expected_spec = replace(features.spec, sampling=look.spec.sampling)
    if look.spec.key != expected_spec.key:
        raise ConfigError(
            f"--first-look {location}: must be made like --features except for the sampling, differs in "
            f"{look.spec.differences(expected_spec)}"
        )
    row_of = {video_id: row for row, video_id in enumerate(look.video_ids)}
    videos = zip(features.video_ids, features.video_uris, strict=True)
    missing = [uri for video_id, uri in videos if video_id not in row_of]
    if missing:
        raise ConfigError(
            f"--first-look {location}: must hold the videos of --features, lacks {len(missing)} of them (for example "
            f"{missing[0]}); extract it from the same manifest, or continue that"
        )
    matched = look.take([row_of[video_id] for video_id in features.video_ids])
    digests = zip(features.video_uris, matched.content_digests, features.content_digests, strict=True)
    changed = [uri for uri, look_digest, digest in digests if look_digest != digest]
    if changed:
        raise ConfigError(
            f"--first-look {location}: content_digest must equal that of --features, differs for {len(changed)} videos "
            f"(for example {changed[0]}); extract both from one archive"
        )
    return matched


def _compared_columns(features: FeatureSet) -> pa.Table:
    """A table with one row per video and the columns that must be equal in all feature sets that train one ensemble."""
    return pa.table(
        {
            VIDEO_ID: features.video_ids,
            # Equal locations give equal order, because a set is sorted by location.
            "video_uri": features.video_uris,
            "label": pa.array(features.labels, pa.string()),
            "sublabel": pa.array(features.sublabels, pa.string()),
            "group": features.groups,
            "split": pa.array(features.splits, pa.string()),
            "content_digest": features.content_digests,
            "num_frames": [len(features_TD) for features_TD in features.features],
        }
    )
