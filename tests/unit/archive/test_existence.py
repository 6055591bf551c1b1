"""A list of which none of the first videos exists is noticed before a long job."""

from __future__ import annotations

from pathlib import Path

from vidclf.archive.existence import none_found


def test_none_of_the_first_hundred_locations_exists() -> None:
    uris = [f"/no/{number}.mp4" for number in range(200)]
    remedy = "correct the paths, or mount the archive on this machine"
    assert none_found(uris) == f"not found: none of the first 100 locations exists, such as '/no/0.mp4'; {remedy}"
    assert none_found(uris[:8]) == f"not found: none of the first 8 locations exists, such as '/no/0.mp4'; {remedy}"
    assert none_found(uris[:1]) == f"not found: the only location, '/no/0.mp4', does not exist; {remedy}"


def test_one_file_or_a_remote_location_is_enough(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1")
    assert none_found(["/no/0.mp4", f"{tmp_path}/a.mp4"]) is None
    assert none_found(["/no/0.mp4", "s3://bucket/a.mp4"]) is None
    assert none_found([]) is None
