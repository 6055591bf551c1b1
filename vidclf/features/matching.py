"""Features of the same videos by several backbones: which go together, and finding a video's other rows.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.schema import VIDEO_ID


def check_specs(locations: Sequence[str], specs: Sequence[FeatureSpec]) -> None:
    """ConfigError unless the features are of different backbones and of the same frames."""
    names = [spec.backbone for spec in specs]
    if len(set(names)) != len(names):
        raise ConfigError(f"--features {','.join(locations)}: must be of different backbones, are of {names}")
    for location, spec in zip(locations, specs, strict=True):
        if spec.frames != specs[0].frames:
            raise ConfigError(
                f"--features {location}: must be of the frames that {locations[0]} is of, but {spec.frames} is not "
                f"{specs[0].frames}; extract both with one --sampling and --num-frames, best in one job"
            )


def check_videos(locations: Sequence[str], tables: Sequence[pa.Table]) -> None:
    """ConfigError, naming a video, unless the tables hold the same videos with the same values in all columns.

    The tables have one row a video and the same columns, `video_id` first.
    """
    first = tables[0]
    ids = first[VIDEO_ID].combine_chunks()
    for location, table in zip(locations[1:], tables[1:], strict=True):
        own = table[VIDEO_ID].combine_chunks()
        for here, there, place, other in ((own, ids, locations[0], location), (ids, own, location, locations[0])):
            lacking = here.filter(pc.invert(pc.is_in(here, there)))
            if len(lacking):
                raise ConfigError(
                    f"--features {place}: must hold the videos of {other}, lacks {len(lacking)} of them (for one "
                    f"{lacking[0]}); extract all backbones in one job, or continue it"
                )
        table = table.take(pc.index_in(ids, own))
        for name in first.column_names[1:]:
            pairs = zip(first[name].to_pylist(), table[name].to_pylist(), strict=True)
            differing = [(video, one, two) for video, (one, two) in enumerate(pairs) if one != two]
            if differing:
                video, one, two = differing[0]
                raise ConfigError(
                    f"--features {location}: {name} must be that of {locations[0]}, differs for {len(differing)} "
                    f"videos (for one {ids[video]}: {two!r}, there {one!r}); extract both from one archive and manifest"
                )


def check_sets(locations: Sequence[str], sets: Sequence[FeatureSet]) -> None:
    """ConfigError unless the sets can be trained on together: `check_specs`, and the same videos with the
    same labels, sources, splits, contents and numbers of frames, which then are in the same order."""
    check_specs(locations, [features.spec for features in sets])
    check_videos(locations, [describe_mismatch(features) for features in sets])


def first_look(location: str, look: FeatureSet, features: FeatureSet) -> FeatureSet:
    """The videos of `features`, in their order, as the features at `location` see them, which are of other frames.

    Raises ConfigError where these are made otherwise in anything but the sampling, or lack a video, or hold
    another file under its name.
    """
    expected = replace(features.spec, sampling=look.spec.sampling)
    if look.spec != expected:
        raise ConfigError(
            f"--first-look {location}: must be made as --features but for the sampling, differs in "
            f"{look.spec.differences(expected)}"
        )
    place_of = {video_id: place for place, video_id in enumerate(look.video_ids)}
    lacking = [video_id for video_id in features.video_ids if video_id not in place_of]
    if lacking:
        raise ConfigError(
            f"--first-look {location}: must hold the videos of --features, lacks {len(lacking)} of them (for one "
            f"{lacking[0]}); extract it from the same manifest, or continue that"
        )
    places = [place_of[video_id] for video_id in features.video_ids]
    lists = [field.name for field in fields(FeatureSet) if field.name != "spec"]
    chosen: dict[str, Any] = {name: [getattr(look, name)[place] for place in places] for name in lists}
    found = replace(look, **chosen)
    pairs = zip(features.video_ids, found.content_digests, features.content_digests, strict=True)
    changed = [video_id for video_id, here, there in pairs if here != there]
    if changed:
        raise ConfigError(
            f"--first-look {location}: content_digest must be that of --features, differs for {len(changed)} videos "
            f"(for one {changed[0]}); extract both from one archive"
        )
    return found


def describe_mismatch(features: FeatureSet) -> pa.Table:
    return pa.table(
        {
            VIDEO_ID: features.video_ids,
            # Which a set is sorted by.
            "video_uri": features.video_uris,
            "label": pa.array(features.labels, pa.string()),
            "sublabel": pa.array(features.sublabels, pa.string()),
            "group": features.groups,
            "split": pa.array(features.splits, pa.string()),
            "content_digest": features.content_digests,
            "num_frames": [len(features_TD) for features_TD in features.features],
        }
    )
