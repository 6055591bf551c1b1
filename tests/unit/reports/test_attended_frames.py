"""Strips of attended frames: the right frames, or the reason why there are none."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tests.support.videos import read_index, write_video
from vidclf import storage
from vidclf.pages import thumbnails
from vidclf.reports import attended_frames
from vidclf.video.decode import decode_video
from vidclf.video.sampling import SamplingPlan

PLAN = SamplingPlan(num_frames=6)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", num_frames=12, fps=10, size=(128, 64))


def written(
    directory: Path, video: Path, attention: list[float], digest: str | None, pts_s: list[float] | None = None
) -> list[str]:
    row = {
        "video_id": "id0",
        "video_uri": str(video),
        "attention": attention,
        "pts_s": pts_s or [0.0] * len(attention),
        "content_digest": digest,
        "stage": "full",
    }
    columns = pa.schema(
        [
            ("video_id", pa.string()),
            ("video_uri", pa.string()),
            ("attention", pa.list_(pa.float32())),
            ("pts_s", pa.list_(pa.float64())),
            ("content_digest", pa.string()),
            ("stage", pa.string()),
        ]
    )
    storage.publish_table(f"{directory}/p.parquet", pa.Table.from_pylist([row], columns))
    return [f"{directory}/p.parquet"]


def digest_of(video: Path) -> str:
    content = decode_video(str(video), PLAN, attended_frames.shrink).content
    assert content is not None
    return content.digest


def test_the_strip_shows_the_attended_frames_at_their_times(tmp_path: Path, video: Path) -> None:
    decoded = decode_video(str(video), PLAN, attended_frames.shrink)
    files = written(tmp_path, video, [0.125] * 4 + [0.375, 0.125], digest_of(video), decoded.pts_s.tolist())
    strip = attended_frames.strips(files, {"id0"}, {"full": PLAN})["id0"]
    assert strip.reason is None
    assert strip.chosen == [0, 1, 2, 3, 4, 5]
    assert [frame.pts_s for frame in strip.frames] == decoded.pts_s.tolist()
    assert [frame.weight for frame in strip.frames] == [0.125] * 4 + [0.375, 0.125]
    jpeg = base64.b64decode(strip.frames[4].image.removeprefix("data:image/jpeg;base64,"))
    image_HWC = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image_HWC.shape == (112, 224, 3)
    assert read_index(image_HWC) == read_index(decoded.frames_THWC[4]) == 9


@pytest.mark.parametrize(
    ("frames", "change", "reason"),
    [
        (6, "digest", "the file has changed since it was classified"),
        (5, "", "decoding now gives other frames, without the one at 0.000 s"),
        (6, "gone", "the video can no longer be read: not_found"),
        (6, "unknown", "the features do not record their video"),
    ],
)
def test_what_cannot_be_shown_has_a_reason(tmp_path: Path, video: Path, frames: int, change: str, reason: str) -> None:
    digest = {"digest": "xxh3:other", "unknown": None}.get(change, digest_of(video))
    uri = tmp_path / "gone.mp4" if change == "gone" else video
    strip = attended_frames.strips(written(tmp_path, uri, [1 / frames] * frames, digest), {"id0"}, {"full": PLAN})[
        "id0"
    ]
    assert strip.frames == []
    assert (strip.reason or "").startswith(reason)


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, video: Path) -> None:
    files = written(tmp_path, video, [1.0], "xxh3:0")
    assert attended_frames.strips(files, set(), {"full": PLAN}) == {}
    assert attended_frames.strips(files, {"other"}, {}) == {}


def test_neighbours_of_a_stronger_frame_give_way() -> None:
    weights = [0.0] * 48
    for index, weight in {10: 0.9, 11: 0.8, 12: 0.7, 30: 0.6, 45: 0.5, 20: 0.4}.items():
        weights[index] = weight
    # A quarter of an even spacing of 4 frames over 48 is 3 frames.
    assert thumbnails.most_attended(weights, count=4) == [10, 20, 30, 45]
    assert thumbnails.most_attended([0.1, 0.9, 0.5], count=2) == [1, 2]
    assert thumbnails.most_attended([0.5], count=6) == [0]


def test_frames_keep_their_proportions() -> None:
    assert attended_frames.shrink(np.zeros((1920, 1080, 3), np.uint8)).shape == (224, 126, 3)
    assert attended_frames.shrink(np.zeros((2, 2000, 3), np.uint8)).shape == (1, 224, 3)


def test_a_plan_that_is_not_known_is_no_error(tmp_path: Path, video: Path) -> None:
    files = written(tmp_path, video, [1.0], digest_of(video))
    assert attended_frames.strips(files, {"id0"}, {})["id0"].reason == "the features do not record their video"
