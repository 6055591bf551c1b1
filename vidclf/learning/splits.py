"""Train, validation and test by source: a pure function of labels, groups and a seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from vidclf.config import ConfigError
from vidclf.schema import SPLITS


def assign(labels: Sequence[str], groups: Sequence[str], fractions: tuple[float, float, float], seed: int) -> list[str]:
    """A split name per video, such that no group is in two splits.

    Groups are dealt class by class, in a seeded random order with larger ones first, each to the
    split that is furthest below its share of the class's videos. Every split with a share gets at
    least one group of every class.

    Raises ConfigError where a group holds several labels, or a class has fewer groups than there
    are splits to fill.
    """
    videos_of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    label_of: dict[str, str] = {}
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        if label_of.setdefault(group, label) != label:
            raise ConfigError(f"group {group!r} must hold one label, holds {label_of[group]!r} and {label!r}")
        videos_of[label][group].append(index)

    wanted = [name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    share = dict(zip(SPLITS, fractions, strict=True))
    result = [""] * len(labels)
    for label in sorted(videos_of):
        members = videos_of[label]
        if len(members) < len(wanted):
            raise ConfigError(
                f"--split: class {label!r} must have at least {len(wanted)} sources to be in {', '.join(wanted)}, "
                f"has {len(members)}; add sources, or give a share of 0 to a split"
            )
        order = sorted(members)
        random.Random(f"{seed}:{label}").shuffle(order)
        order.sort(key=lambda group: -len(members[group]))
        num_videos = sum(map(len, members.values()))
        count = dict.fromkeys(wanted, 0)
        for dealt, group in enumerate(order):
            empty = [name for name in wanted if count[name] == 0]
            # The last groups are kept for splits that have none yet.
            candidates = empty if len(order) - dealt <= len(empty) else wanted
            split = max(candidates, key=lambda name: (share[name] * num_videos - count[name], -wanted.index(name)))
            count[split] += len(members[group])
            for index in members[group]:
                result[index] = split
    return result
