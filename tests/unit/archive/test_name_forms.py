"""What single file names show of their source."""

from __future__ import annotations

import pytest

from vidclf.archive.name_forms import HMDB, NUMBERED, TIMES, UCF, form_of, is_counter


@pytest.mark.parametrize(
    ("stem", "kind", "source"),
    [
        ("v_ApplyEyeMakeup_g01_c02", UCF, "v_ApplyEyeMakeup_g01"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0", HMDB, "April_09_brush_hair"),
        ("0wR5jVB-WPk_000417_000427", TIMES, "0wR5jVB-WPk"),
        ("_3dKJ-x9_12_5_25", TIMES, "_3dKJ-x9_12"),
        ("lecture_12.5_30.25", TIMES, "lecture"),
        ("film_001", NUMBERED, "film"),
        ("bbb-00", NUMBERED, "bbb"),
        ("holiday part 2", NUMBERED, "holiday"),
        ("holiday.cd1", NUMBERED, "holiday"),
        ("Night on Earth (3)", NUMBERED, "Night on Earth"),
        ("sintel01", NUMBERED, "sintel"),
        ("7-01", NUMBERED, "7"),
        ("p7-01", NUMBERED, "p7"),
        ("debian-reference.en-00", NUMBERED, "debian-reference.en"),
    ],
)
def test_the_source_in_a_name(stem: str, kind: str, source: str) -> None:
    form = form_of(stem)
    assert form is not None
    assert (form.kind, form.source) == (kind, source)


@pytest.mark.parametrize(
    "stem",
    [
        *("IMG_0001", "GOPR0001", "GX010042", "DJI_0007", "MVI_1234", "DSC01234", "P1010001", "C0003", "00012"),
        *("video_1", "video_9999", "clip 12", "a_01", "untitled-3", "frame_0010_0020"),
        *("VID_20201231_235959", "PXL_20201231_235959123", "2020-12-31 23-59-59", "trip_2020-01-05", "20200105"),
        *("VID-20201231-WA0001", "WhatsApp Video 2020-12-31 at 23.59.59", "46GP8", "dQw4w9WgXcQ", "scene1", "movie2"),
    ],
)
def test_counters_dates_and_ids_show_no_source(stem: str) -> None:
    assert form_of(stem) is None


def test_two_small_numbers_are_no_times() -> None:
    assert form_of("fox_03_12") is not None
    assert form_of("fox_03_12").kind == NUMBERED  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("0001", True),
        ("clip_01", True),
        ("000010_000020", True),
        ("part-2", True),
        ("tabby_01", False),
        ("clip", False),
    ],
)
def test_bare_counters(stem: str, expected: bool) -> None:
    assert is_counter(stem) is expected
