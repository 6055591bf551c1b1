"""Train, validation and test by source: a pure function of labels, sublabels, groups and a seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from vidclf.errors import ConfigError
from vidclf.schema import SPLITS

Stratum = tuple[str, str]
"""Label and sublabel; an empty sublabel where there is none."""


def assign(
    labels: Sequence[str],
    sublabels: Sequence[str | None],
    groups: Sequence[str],
    fractions: tuple[float, float, float],
    seed: int,
) -> list[str]:
    """A split name per video, such that no group is in two splits and every label and sublabel is
    spread over the splits as `fractions` say, as far as its groups allow.

    Groups are dealt label by label and sublabel by sublabel, in a seeded random order with larger
    ones first. A group above the mean of its sublabel that would fill more than the smallest split's share
    goes to each split with the probability of its fraction, so that large sources are tested too; every
    other group goes to the split that is furthest below its share of the sublabel's videos. What a
    sublabel of few groups leaves uneven the next ones of its label make up for, by at most a group
    each; so five sublabels of two groups do not all go to train. A sublabel of one group goes to
    train, and every split with a share gets at least one group of every label, which comes before
    all else. A group may hold several labels or sublabels; such groups are dealt first.

    Raises ConfigError where a label has fewer groups than there are splits to fill, or groups are
    so entangled between labels that a label cannot be in every split.
    """
    deal = _Deal(labels, sublabels, groups, fractions)
    deal.refuse_too_few()
    for group in deal.shuffled(deal.entangled, f"{seed}"):
        deal.give(group, deal.deficit(deal.held[group]))
    for label in sorted({label for label, _ in deal.num_videos}):
        # Fewest groups first: the largest sublabels, dealt last, can make up for them.
        strata = sorted(deal.at_home[label], key=lambda stratum: (len(deal.at_home[label][stratum]), stratum))
        left = dict.fromkeys(deal.share, 0.0)
        for stratum in strata:
            own = deal.at_home[label][stratum]
            if len(own) == 1 and deal.num_groups[stratum] == 1:
                deal.give(own[0], {name: float(name == "train") for name in deal.share})
                continue
            bound = deal.num_videos[stratum] / deal.num_groups[stratum]
            carried = {name: min(max(left[name], -bound), bound) for name in left}
            for group in deal.shuffled(own, f"{seed}:{label}:{stratum[1]}"):
                deficit = deal.deficit([stratum], carried)
                if deal.held[group].total() > max(bound, min(deal.share.values()) * deal.num_videos[stratum]):
                    deficit = deal.drawn(group, f"{seed}:{label}:{stratum[1]}:{group}")
                deal.give(group, deficit)
            left = deal.deficit([stratum], carried)
    deal.refuse_incomplete()
    return [deal.split_of[group] for group in groups]


class _Deal:
    """Which groups hold what, and what each split has got so far."""

    def __init__(
        self,
        labels: Sequence[str],
        sublabels: Sequence[str | None],
        groups: Sequence[str],
        fractions: tuple[float, float, float],
    ) -> None:
        self.share = {name: fraction for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}
        self.held: dict[str, Counter[Stratum]] = defaultdict(Counter)
        for label, sublabel, group in zip(labels, sublabels, groups, strict=True):
            self.held[group][label, sublabel or ""] += 1
        self.num_videos: Counter[Stratum] = Counter()
        self.num_groups: Counter[Stratum] = Counter()
        self._waiting: Counter[str] = Counter()
        """groups of each label that are not dealt yet"""
        self.entangled: list[str] = []
        """groups of several labels or sublabels"""
        self.at_home: dict[str, dict[Stratum, list[str]]] = defaultdict(lambda: defaultdict(list))
        """the other groups, by label and stratum"""
        for group, held in sorted(self.held.items()):
            self.num_videos.update(held)
            self.num_groups.update(held.keys())
            self._waiting.update({label for label, _ in held})
            if len(held) > 1:
                self.entangled.append(group)
            else:
                stratum = next(iter(held))
                self.at_home[stratum[0]][stratum].append(group)
        self._got: dict[str, Counter[Stratum]] = {name: Counter() for name in self.share}
        self._labels_in: dict[str, set[str]] = {name: set() for name in self.share}
        self.split_of: dict[str, str] = {}

    def shuffled(self, groups: Sequence[str], seed: str) -> list[str]:
        order = sorted(groups)
        random.Random(seed).shuffle(order)
        return sorted(order, key=lambda group: -self.held[group].total())

    def drawn(self, group: str, seed: str) -> dict[str, float]:
        """All videos of a group as the deficit of one split, drawn with the fractions as probabilities."""
        names = list(self.share)
        chosen = random.Random(seed).choices(names, [self.share[name] for name in names])[0]
        return {name: float(self.held[group].total() if name == chosen else 0) for name in names}

    def deficit(self, strata: Iterable[Stratum], carried: dict[str, float] | None = None) -> dict[str, float]:
        """Videos of the strata that each split lacks, with what was carried over from others."""
        return {
            name: sum(share * self.num_videos[stratum] - self._got[name][stratum] for stratum in strata)
            + (carried[name] if carried else 0.0)
            for name, share in self.share.items()
        }

    def give(self, group: str, deficit: dict[str, float]) -> None:
        """Put a group into the split that lacks most, or into one that has nothing of its label while
        there are no more groups left than such splits; of equals into one that has nothing of its
        sublabels, and then into the first."""
        candidates = list(self.share)
        labels = sorted({label for label, _ in self.held[group]})
        for label in labels:
            empty = self._without(label)
            if self._waiting[label] <= len(empty):
                candidates = [name for name in candidates if name in empty] or candidates
            self._waiting[label] -= 1
        split = max(
            candidates,
            key=lambda name: (
                round(deficit[name], 9),
                not any(self._got[name][stratum] for stratum in self.held[group]),
                -SPLITS.index(name),
            ),
        )
        self._got[split].update(self.held[group])
        self._labels_in[split].update(labels)
        self.split_of[group] = split

    def _without(self, label: str) -> list[str]:
        return [name for name in self.share if label not in self._labels_in[name]]

    def refuse_too_few(self) -> None:
        for label in sorted(self._waiting):
            if self._waiting[label] < len(self.share):
                raise ConfigError(
                    f"--split: class {label!r} must have at least {len(self.share)} sources to be in "
                    f"{', '.join(self.share)}, has {self._waiting[label]}; "
                    "add sources, or give a share of 0 to a split"
                )

    def refuse_incomplete(self) -> None:
        for label in sorted(self._waiting):
            if self._without(label):
                raise ConfigError(
                    f"--split: class {label!r} cannot be in {', '.join(self._without(label))}, since its sources hold "
                    "other classes too; add sources of this class alone, or give a share of 0 to a split"
                )
