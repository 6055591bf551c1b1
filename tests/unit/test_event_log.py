"""JSON log lines of the workers, one per video and stage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from tests.support.videos import write_video
from vidclf import event_log, schema
from vidclf.archive.manifest import list_archive
from vidclf.pipeline import decode_stage
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransform, FrameTransforms
from vidclf.video.sampling import SamplingPlan


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    event_log.write("decode", "a\nb", 0.123456, "truncated")
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    event = json.loads(line)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(event.pop("time"))).total_seconds() < 60
    assert event == {"stage": "decode", "video_id": "a\nb", "seconds": 0.1235, "outcome": "truncated"}


def test_a_decode_worker_writes_one_for_each_video_if_it_is_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", num_frames=4)
    (tmp_path / "b.mp4").write_text("not a video\n")
    rows = list_archive(str(tmp_path), labelled=False).manifest
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda *counts: None))
    transforms = FrameTransforms((FrameTransform(resize_size=32, crop_size=32, interpolation="bilinear"),))
    plan, limits = SamplingPlan(num_frames=2), DecodeLimits()
    # Both workers take the same decoder, whose process loads torch.
    decoder = SupervisedDecoder(plan, transforms, transforms.frame_bytes, limits)
    monkeypatch.setattr(decode_stage, "SupervisedDecoder", lambda *arguments: decoder)
    for logs_events in (True, False):
        worker = DecodeVideos(plan, transforms, limits, tally, logs_events)
        assert pa.concat_tables(worker(rows)).num_rows == 2
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        ids = rows[schema.VIDEO_ID].to_pylist()
        expected = [("decode", ids[0], "ok"), ("decode", ids[1], "not_a_video")]
        assert [(event["stage"], event["video_id"], event["outcome"]) for event in events] == expected * logs_events
    decoder.close()
