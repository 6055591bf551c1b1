"""Sources that file names of whole archives show, on literal lists in the style of public data sets."""

from __future__ import annotations

from typing import Any

import pytest

from vidclf.archive.source_names import SourceNames, find_sources


def found(*paths: str, in_directories: bool = True) -> SourceNames:
    """The sources in an archive `LABEL[/SUBLABEL]/NAME`."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        label, *between, _ = path.split("/") if "/" in path else (None, path)
        rows.append({"video_uri": f"/data/{path}.mp4", "label": label, "sublabel": "/".join(between) or None})
    return find_sources(rows, in_directories=in_directories)


def names(*paths: str, in_directories: bool = True) -> list[str | None]:
    return [source and source.name for source in found(*paths, in_directories=in_directories).found]


def test_ucf101() -> None:
    paths = [f"Biking/v_Biking_g{group:02d}_c{clip:02d}" for group in (1, 2, 3) for clip in (1, 2)]
    assert names(*paths) == [f"Biking:v_Biking_g{group:02d}" for group in (1, 1, 2, 2, 3, 3)]
    assert found(*paths).lines == [
        "sources in file names: 3 sources of 6 videos by group and clip, as in UCF101 ('v_Biking_g01_c01' is of source "
        "'Biking:v_Biking_g01', 2 videos); --group-pattern REGEX reads them otherwise, --group-pattern none takes none"
    ]


def test_kinetics_ids_are_one_source_in_every_class() -> None:
    paths = ["abseiling/0wR5jVB-WPk_000417_000427", "abseiling/3caPS4FHFF8_000036_000046"]
    paths += ["air drumming/0wR5jVB-WPk_000100_000110", "abseiling/3yaoNwz99xM_000062_000072"]
    paths += ["air drumming/6IbvOJxXnOo_000047_000057", "air drumming/6_4kjPiQr7w_000191_000201"]
    assert names(*paths) == [
        *("0wR5jVB-WPk", "3caPS4FHFF8", "0wR5jVB-WPk", "3yaoNwz99xM", "6IbvOJxXnOo", "6_4kjPiQr7w"),
    ]


def test_hmdb51() -> None:
    paths = [
        "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0",
        "brush_hair/April_09_brush_hair_u_nm_np1_ba_med_3",
        "brush_hair/atheism_brush_hair_u_nm_np1_ri_goo_1",
        "brush_hair/sarah_brush_hair_h_cm_np1_fr_goo_0",
    ]
    assert names(*paths) == [
        *("brush_hair:April_09_brush_hair", "brush_hair:April_09_brush_hair"),
        *("brush_hair:atheism_brush_hair", "brush_hair:sarah_brush_hair"),
    ]


@pytest.mark.parametrize(
    "stems",
    [
        ("46GP8", "N11GT", "0KZ69", "YSE4Y", "5KJ01", "5KJ02"),  # Charades
        ("dQw4w9WgXcQ", "abcdefgh-12", "3yaoNwz9-01", "6IbvO_nOo-9", "0wR5jVB-WPk", "5Hn-xyz_123"),  # YouTube-8M
        ("IMG_0001", "IMG_0002", "IMG_0003", "GOPR0001", "GOPR0002", "MVI_0003"),  # cameras
        tuple(f"video_{number}" for number in range(1, 7)),
        ("VID_20201231_235959", "VID_20201231_235920", "2020-12-31 23-59-59", "2020-12-31 23-59-58", "a", "b"),
    ],
)
def test_names_without_a_source(stems: tuple[str, ...]) -> None:
    assert names(*(f"walking/{stem}" for stem in stems)) == [None] * 6
    assert found(*(f"walking/{stem}" for stem in stems)).lines == []


def test_running_numbers_name_single_videos_only_if_others_confirm_their_style() -> None:
    paths = [f"cat/tabby-{number:02d}" for number in range(3)] + ["cat/black-00", "cat/white_1", "cat/red-000", "cat/x"]
    assert names(*paths) == ["cat:tabby"] * 3 + ["cat:black", None, None, None]


def test_running_numbers_behind_the_name_of_the_class_are_a_counter() -> None:
    paths = ["cat/cat_001", "cat/cat_002", "cat/tabby/Tabby-1", "cat/tabby/tabby-2", "cat/fox_001", "cat/fox_002"]
    assert names(*paths) == [None, None, None, None, "cat:fox", "cat:fox"]


def test_a_number_that_counts_most_of_a_class_is_no_source() -> None:
    paths = [f"sport/arena_{number:04d}" for number in range(8)] + [f"sport/{name}" for name in "abcdefg"]
    assert names(*paths) == [None] * 15
    assert found(*paths).lines == [
        "not taken for one source: 8 of the 15 videos of class 'sport' are numbered like 'arena_0000'; if they are one "
        "recording, say so with --group-pattern"
    ]


def test_a_class_keeps_at_least_three_sources() -> None:
    paths = [f"cat/{recording}_{start:04d}_{start + 10:04d}" for recording in ("tabby", "black") for start in (0, 10)]
    paths += ["dog/a", "dog/b", "dog/c"]
    assert names(*paths) == [None] * 7
    assert found(*paths).lines == [
        "not taken: file names show 2 sources for the 4 videos of class 'cat', too few to split; if that is right, say "
        "so with --group-pattern"
    ]


def test_a_directory_per_source() -> None:
    paths = [f"match/game{game}x/clip_{clip:02d}" for game in "abcde" for clip in (1, 2)]
    assert names(*paths) == [f"match:game{game}x" for game in "aabbccddee"]
    assert "'gamea" in found(*paths).lines[0]
    assert names(*paths, in_directories=False) == [None] * 10


@pytest.mark.parametrize(
    "paths",
    [
        [f"match/{sublabel}/{number:04d}" for sublabel in ("day", "night") for number in range(8)],  # two sublabels
        [
            f"{label}/{sub}/{number}" for label in ("cat", "dog") for sub in "abcde" for number in (1, 2)
        ],  # in two classes
        [f"match/{sub}x/{number}" for sub in "abcde" for number in range(31)],  # too many videos
        [f"match/{sub}x/{name}" for sub in "abcde" for name in ("goal", "foul")],  # names of their own
        [f"match/{sub}x/1" for sub in "abcde"],  # one video each
    ],
)
def test_directories_that_are_sublabels(paths: list[str]) -> None:
    assert names(*paths) == [None] * len(paths)


def test_an_archive_without_labels_is_one_class() -> None:
    assert names("film_001", "film_002", "a", "b") == ["film", "film", None, None]
