"""ActivityNet JSON: the results of a classification or detection, as the evaluation of the challenge reads them.

The format is that of https://github.com/activitynet/ActivityNet/tree/master/Evaluation: `results` has a list of
segments, labels and scores for each video. `external_data` may hold anything; here it names the run of each video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vidclf.errors import ConfigError
from vidclf.export import json_entries
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing
from vidclf.runs import outputs

VERSION = "vidclf 1"


class ActivityNetResults:
    """A JSON file with one list of results per video, by video id."""

    def __init__(self, location: str) -> None:
        self._location = outputs.real(location)
        self._results: dict[str, list[dict[str, Any]]] = {}
        self._sources: dict[str, dict[str, Any]] = {}

    def read(self) -> Existing | None:
        """Keys of the videos of the file; None if there is no file."""
        content = json_entries.load(self._location)
        if content is None:
            return None
        try:
            self._results, self._sources = content["results"], content["external_data"]["videos"]
            present = Present()
            for video_id in self._results:
                present.add(*({**self._sources[video_id], "video_id": video_id}[name] for name in KEYS))
        except (KeyError, TypeError):
            raise ConfigError(
                f"--output {self._location}: has results of other programs; choose another name"
            ) from None
        return Existing(present)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the results that stay and the new ones. Raises ConfigError if a video would have two."""
        gone = self._results.keys() if change.removes_all else change.removed
        kept = {video: result for video, result in self._results.items() if video not in gone}
        twice = sorted(change.written & kept.keys())
        if twice:
            raise ConfigError(
                f"--output {self._location}: has one result per video, and {len(twice)} of these videos have one (for "
                f"one {twice[0]}); --mode replace-by-video replaces them"
            )
        sources = {video: self._sources[video] for video in kept}
        segments = rows.segments()

        def entries() -> Iterator[str]:
            for video, results in kept.items():
                yield f"{json_entries.text(video)}: {json_entries.text(results)}"
            for row in json_entries.values(rows, change):
                sources[row["video_id"]] = {name: row[name] for name in ("run_id", "ensemble_id", "video_uri")}
                yield f"{json_entries.text(row['video_id'])}: {json_entries.text(results_of(row, segments))}"

        lines = list(entries())  # fills `sources`
        external = json_entries.text({"used": True, "details": "predictions of vidclf", "videos": sources})
        json_entries.publish(
            self._location,
            f'{{"version": {json_entries.text(VERSION)}, "results": {{',
            lines,
            f'\n}}, "external_data": {external}}}\n',
        )


def results_of(row: dict[str, Any], segments: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The results of a video: one per segment, or one for its whole duration if it has no segments."""
    parts: Sequence[dict[str, Any]] = segments.get(row["video_id"]) or [
        {**row, "start_s": 0.0, "end_s": row["duration_s"]}
    ]
    return [
        {"label": part["top_label"], "score": part["confidence"], "segment": [part["start_s"], part["end_s"]]}
        for part in parts
    ]
