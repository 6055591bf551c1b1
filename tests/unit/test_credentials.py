"""Masking of credentials in locations, and locations in shared reports."""

from __future__ import annotations

import pytest

from vidclf.credentials import common_base, has_credentials, is_masked, masked, masked_text, relative, relative_text

SIGNED = (
    "https://bucket.s3.amazonaws.com/a%20b/v.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261127"
    "&X-Amz-Expires=3600&X-Amz-Security-Token=FwoG&X-Amz-SignedHeaders=host&X-Amz-Signature=0a1b"
)
SHOWN = (
    "https://bucket.s3.amazonaws.com/a%20b/v.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=***"
    "&X-Amz-Expires=3600&X-Amz-Security-Token=***&X-Amz-SignedHeaders=host&X-Amz-Signature=***"
)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (SIGNED, SHOWN),
        ("https://a.blob.core.windows.net/c/v.mp4?sv=2024&se=2026-12-01&sp=r&sig=x%3D", "https://a.blob.core.windows.net/c/v.mp4?sv=2024&se=2026-12-01&sp=r&sig=***"),
        ("https://user:pass@host/v.mp4", "https://***@host/v.mp4"),
        ("https://token@host:8443", "https://***@host:8443"),
        ("https://user:p@ss@host/v.mp4", "https://***@host/v.mp4"),
        ("s3://AKIA:wJalr%2Fx@bucket/key?region=eu-west-1", "s3://***@bucket/key?region=eu-west-1"),
        ("https://host/v.mp4?access_token=abc&t=5#part", "https://host/v.mp4?access_token=***&t=5#part"),
        ("https://host/v.mp4?Expires=1&Signature=a~b&Key-Pair-Id=K", "https://host/v.mp4?Expires=1&Signature=***&Key-Pair-Id=***"),
        ("https://h/v?GoogleAccessId=me&X-Goog-Signature=12", "https://h/v?GoogleAccessId=***&X-Goog-Signature=***"),
        ("s3://bucket/k?secret_key=s;session_token=t", "s3://bucket/k?secret_key=***;session_token=***"),
        ("https://h/v?API-Key=1&apikey=2", "https://h/v?API-Key=***&apikey=***"),
    ],
)  # fmt: skip
def test_what_grants_access_is_hidden_and_the_rest_stays(location: str, shown: str) -> None:
    assert masked(location) == shown
    assert has_credentials(location)
    assert is_masked(shown)
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "location",
    [
        "/data/user@host/v.mp4?sig=1",
        "relative/v.mp4",
        "s3://bucket/a@b/v.mp4?region=us-east-1&scheme=https",
        "https://host/v.mp4?design=2&signed=no&sig=",
        "https://host/user:pass@v.mp4",
        "http://[::1]:9000/v.mp4",
    ],
)
def test_what_grants_nothing_stays(location: str) -> None:
    assert masked(location) == location
    assert not has_credentials(location)
    assert not is_masked(location)


def test_locations_in_running_text_are_masked() -> None:
    text = (
        f"--input {SIGNED}: no such list ('https://u:p@host/x'), see (ftp://me@h/y); mail a@b.example or s3://c/d?sig"
    )
    assert masked_text(text) == (
        f"--input {SHOWN}: no such list ('https://***@host/x'), see (ftp://***@h/y); mail a@b.example or s3://c/d?sig"
    )
    assert masked_text("sig=1 and token=2 without a location") == "sig=1 and token=2 without a location"
    # The words of urllib3 about a failed request.
    assert masked_text("Retrying: /?token=t0ken/api/search (Caused by ...)") == "Retrying: /?token=*** (Caused by ...)"
    assert masked_text("is it a/b? token=1") == "is it a/b? token=1"


@pytest.mark.parametrize(
    ("locations", "base"),
    [
        (["/data/a/1.mp4", "/data/b/2.mp4"], "/data"),
        (["/data/a/1.mp4"], "/data/a"),
        (["/data/ab/1.mp4", "/data/a/2.mp4"], "/data"),
        (["s3://bucket/a/1.mp4", "s3://bucket/b/1.mp4"], "s3://bucket"),
        (["s3://one/1.mp4", "s3://two/1.mp4"], ""),
        (["https://u:p@h/a/1.mp4?sig=x/y", "https://u:q@h/a/2.mp4?sig=z"], "https://***@h/a"),
        (["1.mp4", "/a/2.mp4"], ""),
        ([], ""),
    ],
)
def test_the_base_of_some_locations(locations: list[str], base: str) -> None:
    assert common_base(locations) == base


@pytest.mark.parametrize(
    ("location", "base", "shown"),
    [
        ("/data/a/1.mp4", "/data", "a/1.mp4"),
        ("/data/a/1.mp4", "/data/", "a/1.mp4"),
        ("/database/1.mp4", "/data", "/database/1.mp4"),
        ("/data/a/1.mp4", "", "/data/a/1.mp4"),
        ("https://u:p@h/a/1.mp4?sig=x", "https://u:p@h", "a/1.mp4?sig=***"),
    ],
)
def test_a_location_in_a_report(location: str, base: str, shown: str) -> None:
    assert relative(location, base) == shown
    assert relative_text(f"{location}: not found ({location})", base) == f"{shown}: not found ({shown})"
