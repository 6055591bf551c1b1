"""Assignment of videos to train, validation and test, such that related videos stay together.

The result depends only on labels, groups, a seed and the splits that groups keep. A group is a set of videos that must
not be divided between splits, because they come from one source (for example cut from one recording). A stratum is a
label with one of its sublabels.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vidclf.errors import ConfigError
from vidclf.schema import SPLITS

Stratum = tuple[str, str]
"""Pair of label and sublabel; the sublabel is an empty text if there is none."""


def assign(
    labels: Sequence[str],
    sublabels: Sequence[str | None],
    groups: Sequence[str],
    fractions: tuple[float, float, float],
    seed: int,
    kept: Mapping[str, str] | None = None,
    option: str = "--split",
) -> list[str]:
    """Return the split of each video, as a list of the names train, val and test.

    `kept` gives the splits that groups already have, by group: these groups stay where they are, and the others fill
    what is lacking. A label with such a group need not reach every split. `option` is the option that errors name, with
    its value if that helps.

    No group (videos from one source) is divided between splits. Every label and sublabel is distributed over the
    splits like `fractions` (train, val, test), as far as its groups allow.

    The rules, the most important first:

    - Every split with a fraction above 0 gets at least one group of every label.
    - Groups with videos of several labels or sublabels are assigned first.
    - Then follow the labels one by one, each with its sublabels one by one, those with the fewest groups
      first, so that the largest can compensate. The groups of a sublabel follow in seeded random order, larger
      ones first.
    - If a sublabel has only one group, that group goes to train.
    - A group that is larger than the mean group of its sublabel, and larger than the smallest split's share of that
      sublabel, goes to a split drawn at random with the fractions as probabilities. So large sources are tested too.
    - Every other group goes to the split that is furthest below its share of the sublabel's videos.
    - What a sublabel with few groups leaves uneven is carried over to the next sublabels of the label, and what a
      label leaves uneven to the next labels, at most one mean group per split. Without this, five sublabels of two
      groups could all go to train.

    Raises ConfigError if a label has fewer groups than there are splits to fill, or if groups of several labels keep
    a label out of a split.
    """
    assignment = _Assignment(labels, sublabels, groups, fractions, kept or {}, option)
    assignment.check_enough_groups()
    for group in assignment.shuffled(assignment.mixed_groups, f"{seed}"):
        assignment.assign(group, assignment.deficit(assignment.videos_of[group]))
    for label in assignment.labels():
        _assign_label(assignment, label, seed)
    assignment.check_complete()
    return [assignment.split_of[group] for group in groups]


def _assign_label(assignment: _Assignment, label: str, seed: int) -> None:
    """Assign to splits those groups whose videos all have this label and one same sublabel.

    A group is a set of videos that must stay in one split; groups of several labels or sublabels are assigned
    elsewhere.
    """
    groups_of = assignment.pure_groups[label]
    # Sublabels with the fewest groups come first: the largest sublabels, which come last, can compensate for them.
    strata = sorted(groups_of, key=lambda stratum: (len(groups_of[stratum]), stratum))
    num_videos = sum(assignment.num_videos[stratum] for stratum in strata)
    num_groups = sum(assignment.num_groups[stratum] for stratum in strata)
    carry_over = assignment.imbalance(most=num_videos / max(num_groups, 1))
    assignment.finished |= set(groups_of)
    for stratum in strata:
        groups = groups_of[stratum]
        num_videos, num_groups = assignment.num_videos[stratum], assignment.num_groups[stratum]
        if num_groups == 1:
            for group in groups:  # none if the group keeps its split
                assignment.assign(group, {name: float(name == "train") for name in assignment.fractions})
            continue
        mean_videos = num_videos / num_groups
        carried = {name: min(max(carry_over[name], -mean_videos), mean_videos) for name in carry_over}
        for group in assignment.shuffled(groups, f"{seed}:{label}:{stratum[1]}"):
            deficit = assignment.deficit([stratum], carried)
            if assignment.videos_of[group].total() > max(mean_videos, min(assignment.fractions.values()) * num_videos):
                deficit = assignment.random_deficit(group, f"{seed}:{label}:{stratum[1]}:{group}")
            assignment.assign(group, deficit)
        carry_over = assignment.deficit([stratum], carried)


class _Assignment:
    """State of one call of `assign`: the videos of each group, and the groups that each split has received so far.

    A group is a set of videos that must stay in one split.
    """

    def __init__(
        self,
        labels: Sequence[str],
        sublabels: Sequence[str | None],
        groups: Sequence[str],
        fractions: tuple[float, float, float],
        kept: Mapping[str, str],
        option: str,
    ) -> None:
        self._option = option
        self._or_no_share = ", or give a share of 0 to a split" if option == "--split" else ""
        self.fractions = {name: fraction for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}
        """fraction of the videos that each split should get, by split name; only splits with a fraction above 0"""
        self.videos_of: dict[str, Counter[Stratum]] = defaultdict(Counter)
        """number of videos, by group and by (label, sublabel)"""
        for label, sublabel, group in zip(labels, sublabels, groups, strict=True):
            self.videos_of[group][label, sublabel or ""] += 1
        self.num_videos: Counter[Stratum] = Counter()
        self.num_groups: Counter[Stratum] = Counter()
        self.mixed_groups: list[str] = []
        """groups with videos of several labels or sublabels whose split is not kept"""
        self.pure_groups: dict[str, dict[Stratum, list[str]]] = defaultdict(lambda: defaultdict(list))
        """groups of a single label and sublabel whose split is not kept, by label and by (label, sublabel)"""
        self.split_of: dict[str, str] = {}
        """name of the split of each group that has been assigned"""
        self.finished: set[Stratum] = set()
        """pairs (label, sublabel) of the labels whose groups have all been assigned"""
        self._num_unassigned: Counter[str] = Counter()
        """number of groups of each label that have not been assigned yet"""
        # A kept split may have a fraction of 0 now.
        self._videos_in: dict[str, Counter[Stratum]] = {name: Counter() for name in SPLITS}
        self._kept_in: dict[str, Counter[Stratum]] = {name: Counter() for name in SPLITS}
        """number of videos whose group keeps its split, by split and by (label, sublabel)"""
        self._labels_in: dict[str, set[str]] = {name: set() for name in SPLITS}
        self._labels_kept: set[str] = set()
        """labels of the groups that keep their split"""
        for group, videos in sorted(self.videos_of.items()):
            self.num_videos.update(videos)
            self.num_groups.update(videos.keys())
            labels_of_group = {label for label, _ in videos}
            strata_of_label = [self.pure_groups[label][label, sublabel] for label, sublabel in videos]
            if group in kept:
                self._place(group, kept[group])
                self._kept_in[kept[group]].update(videos)
                self._labels_kept |= labels_of_group
                continue
            self._num_unassigned.update(labels_of_group)
            if len(videos) > 1:
                self.mixed_groups.append(group)
            else:
                strata_of_label[0].append(group)

    def shuffled(self, groups: Sequence[str], seed: str) -> list[str]:
        """Return the groups sorted from large to small; `seed` decides the random order of groups of equal size."""
        order = sorted(groups)
        random.Random(seed).shuffle(order)
        return sorted(order, key=lambda group: -self.videos_of[group].total())

    def random_deficit(self, group: str, seed: str) -> dict[str, float]:
        """Return, per split name, a number of lacking videos that makes `assign` choose a split at random.

        One split, drawn with the fractions as probabilities, lacks as many videos as the group has; the others lack
        0.
        """
        names = list(self.fractions)
        drawn = random.Random(seed).choices(names, [self.fractions[name] for name in names])[0]
        return {name: float(self.videos_of[group].total() if name == drawn else 0) for name in names}

    def deficit(self, strata: Iterable[Stratum], carried: dict[str, float] | None = None) -> dict[str, float]:
        """Return for each split the number of videos that it lacks to reach its fraction of the given strata.

        `strata`: pairs (label, sublabel). `carried`: numbers per split to add, left over from earlier strata.
        """
        return {
            name: sum(fraction * self.num_videos[stratum] - self._videos_in[name][stratum] for stratum in strata)
            + (carried[name] if carried else 0.0)
            for name, fraction in self.fractions.items()
        }

    def labels(self) -> list[str]:
        """Return all labels in the order in which their groups are assigned: those with the most left come last, since
        they can make up for the others."""
        num_left = {label: sum(map(len, self.pure_groups[label].values())) for label, _ in self.num_videos}
        return sorted(num_left, key=lambda label: (num_left[label], label))

    def imbalance(self, most: float) -> dict[str, float]:
        """Return for each split what it lacks of its fraction of the videos that have their place, at most `most`.

        These are the videos of finished labels and of groups that keep their split.

        With the size of a group as `most`, it decides only where a label's own videos leave two splits about equal.
        Without it all labels of one size would be rounded alike, and an archive of 60 videos would be 3 points off.
        """
        kept = {name: self._num_kept_in(name) for name in self.fractions}
        num_kept = sum(self._num_kept_in(name) for name in SPLITS)
        lacking = {
            name: number + self.fractions[name] * num_kept - kept[name]
            for name, number in self.deficit(self.finished).items()
        }
        return {name: min(max(number, -most), most) for name, number in lacking.items()}

    def _num_kept_in(self, name: str) -> int:
        """Return how many videos of unfinished labels are in a split because their group keeps it."""
        return sum(number for stratum, number in self._kept_in[name].items() if stratum not in self.finished)

    def assign(self, group: str, deficit: dict[str, float]) -> None:
        """Assign a group to the split with the largest deficit, the number of videos that it lacks.

        If only as many groups of a label are left as there are splits without the label, the group goes to one of
        these splits. Of splits with equal deficits, one without the group's labels and sublabels is preferred, then
        the first one.
        """
        candidates = list(self.fractions)
        labels = sorted({label for label, _ in self.videos_of[group]})
        for label in labels:
            without_label = self._splits_without(label)
            if self._num_unassigned[label] <= len(without_label):
                candidates = [name for name in candidates if name in without_label] or candidates
            self._num_unassigned[label] -= 1
        split = max(
            candidates,
            key=lambda name: (
                round(deficit[name], 9),
                not any(self._videos_in[name][stratum] for stratum in self.videos_of[group]),
                -SPLITS.index(name),
            ),
        )
        self._place(group, split)

    def _place(self, group: str, split: str) -> None:
        self._videos_in[split].update(self.videos_of[group])
        self._labels_in[split].update(label for label, _ in self.videos_of[group])
        self.split_of[group] = split

    def _splits_without(self, label: str) -> list[str]:
        return [name for name in self.fractions if label not in self._labels_in[name]]

    def check_enough_groups(self) -> None:
        """Raise ConfigError if a label has fewer groups than there are splits to fill, and none keeps its split.

        Call it before `assign`.
        """
        for label in sorted(self._num_unassigned.keys() - self._labels_kept):
            if self._num_unassigned[label] < len(self.fractions):
                raise ConfigError(
                    f"{self._option}: class {label!r} must have at least {len(self.fractions)} sources to be in "
                    f"{', '.join(self.fractions)}, has {self._num_unassigned[label]}; add sources{self._or_no_share}"
                )

    def check_complete(self) -> None:
        """Raise ConfigError if a split has no group of some label, and none of the label's groups keeps its split. Call
        it when all groups are assigned."""
        for label in sorted(self._num_unassigned.keys() - self._labels_kept):
            if self._splits_without(label):
                raise ConfigError(
                    f"{self._option}: class {label!r} cannot be in {', '.join(self._splits_without(label))}, since "
                    f"its sources hold other classes too; add sources of this class alone{self._or_no_share}"
                )
