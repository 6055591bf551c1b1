"""Precision and recall of the sources that file names show, on an archive with known sources and on made lists.

    python benchmarks/source_names.py --manifest manifest.csv

`--manifest` is a CSV file with the columns path, label, sublabel and group (the true source). The made lists are in the
style of public data sets, with seed 0. A pair is two videos of one source. Precision is the share of found pairs that
are pairs, recall the share of the pairs that are found. "Unnamed" is the share of videos whose name shows no source.
"""

from __future__ import annotations

import argparse
import csv
import random
import string
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf.archive.source_names import find_sources

Row = tuple[str, str, str, str]
"""A video of a list: path below the archive, label, sublabel and true source."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="CSV file with path, label, sublabel and group")
    arguments = parser.parse_args()
    with arguments.manifest.open(newline="") as file:
        known = [(row["path"], row["label"], row["sublabel"], row["group"]) for row in csv.DictReader(file)]
    lists = {f"{arguments.manifest.parent.name} ({len(known)} clips)": known, **made_lists(random.Random(0))}
    print("| list | videos | sources | pairs | precision | recall | unnamed |\n|---|---|---|---|---|---|---|")
    for name, rows in lists.items():
        print(f"| {name} | {measured(rows)} |")


def measured(rows: list[Row]) -> str:
    """The cells of a row of the table."""
    names = find_sources(
        [{"video_uri": f"/{path}", "label": label, "sublabel": sublabel or None} for path, label, sublabel, _ in rows],
        in_directories=True,
    )
    true = [source for *_, source in rows]
    found = [source.name if source else f"own {index}" for index, source in enumerate(names.found)]
    both = num_pairs(list(zip(true, found, strict=True)))
    pairs, pairs_found = num_pairs(true), num_pairs(found)
    precision = f"{both / pairs_found:.3f}" if pairs_found else "–"
    recall = f"{both / pairs:.3f}" if pairs else "–"
    unnamed = sum(source is None for source in names.found) / len(rows)
    return f"{len(rows)} | {len(set(true))} | {pairs} | {precision} | {recall} | {unnamed:.2f}"


def num_pairs(sources: list[str] | list[tuple[str, str]]) -> int:
    """Number of pairs of videos with equal sources."""
    return sum(count * (count - 1) // 2 for count in Counter(sources).values())


def made_lists(generator: random.Random) -> dict[str, list[Row]]:
    """Lists of videos in the style of public data sets and of private archives, by name."""
    letters = string.ascii_letters + string.digits + "-_"

    def youtube_id() -> str:
        return "".join(generator.choices(letters, k=11))

    actions = ["Biking", "Diving", "Fencing", "HighJump", "Punch"]
    ucf = [
        (f"{action}/v_{action}_g{group:02d}_c{clip:02d}.avi", action, "", f"{action}{group}")
        for action in actions
        for group in range(1, 26)
        for clip in range(1, generator.randint(4, 7))
    ]
    hmdb = []
    for action in ("brush_hair", "wave", "ride_bike"):
        for film in range(30):
            for clip in range(generator.randint(1, 4)):
                view, quality = generator.choice(["ba", "fr", "le", "ri"]), generator.choice(["bad", "med", "goo"])
                stem = f"Film_{film}_{action}_u_cm_np1_{view}_{quality}_{clip}"
                hmdb.append((f"{action}/{stem}.avi", action, "", f"{action}{film}"))
    kinetics, videos = [], [youtube_id() for _ in range(1000)]
    for action in actions:
        for video in generator.sample(videos, 210):
            start = generator.randint(0, 300)
            kinetics.append((f"{action}/{video}_{start:06d}_{start + 10:06d}.mp4", action, "", video))
    charades = {"".join(generator.choices(string.ascii_uppercase + string.digits, k=5)) for _ in range(1000)}
    youtube = {youtube_id() for _ in range(5000)}
    return {
        "UCF101 style": ucf,
        "HMDB51 style": hmdb,
        "Kinetics style": kinetics,
        "Charades style": [(f"{stem}.mp4", "home", "", stem) for stem in sorted(charades)],
        "YouTube-8M style": [(f"{stem}.mp4", generator.choice("abcde"), "", stem) for stem in sorted(youtube)],
        "camera counters": [
            (f"{label}/{prefix}{number:04d}.mp4", label, "", f"{label}{prefix}{number}")
            for label in ("cat", "dog")
            for prefix in ("IMG_", "GOPR", "MVI_", "DJI_", "VID_202012")
            for number in range(100)
        ],
        "a counter per class": [
            (f"{label}/video_{number}.mp4", label, "", f"{label}{number}")
            for label in ("cat", "dog")
            for number in range(1, 2000)
        ],
        "a collection's counter in every class": [
            (f"{label}/arena_{number:05d}.mp4", label, "", f"{label}{number}")
            for label in ("cat", "dog")
            for number in range(500)
        ],
        "two collections' counters in every class": [
            (f"{label}/{collection}_{number:05d}.mp4", label, "", f"{label}{collection}{number}")
            for label in ("cat", "dog")
            for collection in ("arena", "bbc", "pond")
            for number in range(100)
        ],
        "films cut into clips": [
            (f"{label}/{film}_{clip:03d}.mp4", label, "", f"{label}{film}")
            for label in ("cat", "dog")
            for film in ("sintel", "tears", "spring", "agent327", "coffee run")
            for clip in range(generator.randint(3, 60))
        ],
        "a directory per recording": [
            (f"{label}/{label}day{day}/clip_{clip:02d}.mp4", label, f"{label}day{day}", f"{label}{day}")
            for label in ("cat", "dog")
            for day in range(20)
            for clip in range(generator.randint(1, 9))
        ],
    }


if __name__ == "__main__":
    main()
