"""Extract loses its driver, workers, decoders and a machine, is resubmitted, and its numbers add up.

`VIDCLF_CHAOS_ROUNDS` (default 1) rounds kill one victim of each kind, at moments drawn from `VIDCLF_CHAOS_SEED`.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.support.chaos import VICTIMS, ChaosCluster, Outcome, Round
from tests.support.jobs import succeed
from tests.support.videos import write_video

NUM_ROUNDS = int(os.environ.get("VIDCLF_CHAOS_ROUNDS", "1"))
RACE_EVERY = 3
"""In one of this many rounds, beginning with the first, every job is submitted twice at once."""
SEED = int(os.environ.get("VIDCLF_CHAOS_SEED", time.time_ns() % 1_000_000))


def make_archive(folder: Path) -> None:
    """Forty-eight links to two videos. Every third is decoded at once, the others take most of a second each.

    The slow video consists of noise and has a single keyframe. It makes the job long enough to be killed.
    """
    folder.mkdir()
    short = write_video(folder.with_name("short.mp4"))
    long = write_video(
        folder.with_name("long.mp4"), 500, size=(320, 240), gop=500, noise=True, codec_options={"sc_threshold": "0"}
    )
    for number in range(48):
        # Hard links, so that the open file of a decoder shows which video it is decoding.
        os.link(long if number % 3 else short, folder / f"{number:02}.mp4")


def test_nothing_is_lost_or_done_twice_whatever_is_killed(tmp_path: Path) -> None:
    print(f"VIDCLF_CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    make_archive(tmp_path / "archive")
    manifest = tmp_path / "manifest.parquet"
    succeed("index", "--input", tmp_path / "archive", "--split", "none", "--output", manifest)
    outcome = Outcome()
    cluster = ChaosCluster(tmp_path / "cluster.log")
    try:
        for number in range(NUM_ROUNDS):
            folder = tmp_path / f"round-{number}"
            folder.mkdir()
            outcome.add(Round(cluster, manifest, folder, rng, is_race=number % RACE_EVERY == 0).run())
    finally:
        cluster.close()
        print(outcome.table())
    assert outcome.kills == dict.fromkeys(VICTIMS, NUM_ROUNDS)
    assert outcome.audits_passed == outcome.runs
    assert outcome.races >= 1
