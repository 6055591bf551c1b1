"""JSON log lines: one per video and pipeline stage, on the standard output of the worker (`--json-logs`).

Ray stores this output as `worker-*.out` in its log directory on each node, where the dashboard and log collectors
find it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime


def write(stage: str, video_id: str, seconds: float, outcome: str) -> None:
    """Print one JSON line for a video.

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
    print(json.dumps(event), flush=True)
