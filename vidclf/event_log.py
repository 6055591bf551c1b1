"""Log lines in JSON (`--json-logs`): a worker prints one each time a video has passed a stage, such as decoding.

Ray stores the printed lines as `worker-*.out` in its log directory on each machine, where the dashboard and log
collectors find them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from vidclf.json_text import json_text


def write(stage: str, video_id: str, seconds: float, outcome: str) -> None:
    """Print one JSON line that says how a video passed a stage of the pipeline.

    Its keys are `time` (UTC), `stage`, `video_id`, `seconds` (the worker's time for the video) and `outcome` ("ok" or
    the reject reason).
    """
    event = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "stage": stage,
        "video_id": video_id,
        "seconds": round(seconds, 4),
        "outcome": outcome,
    }
    print(json_text(event), flush=True)
