"""What was done with each video, as JSON lines on the standard output of the worker that did it.

Ray keeps that as `worker-*.out` among its logs on each node, where the dashboard and log collectors find it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime


def write(stage: str, video_id: str, seconds: float, outcome: str) -> None:
    """One line: `time` (UTC), `stage`, `video_id`, `seconds` of the worker, `outcome` (ok, or the reject reason)."""
    event = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "stage": stage,
        "video_id": video_id,
        "seconds": round(seconds, 4),
        "outcome": outcome,
    }
    print(json.dumps(event), flush=True)
