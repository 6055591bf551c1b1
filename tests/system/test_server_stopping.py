"""A server in its own process, ended by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from tests.support.ensembles import write_small_ensemble
from tests.support.http import upload
from tests.support.videos import write_video

ROOT = Path(__file__).resolve().parents[2]


def test_sigterm_ends_a_server_and_its_listeners_hear_why(tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip.mp4", num_frames=12).read_bytes()
    ensemble = write_small_ensemble(tmp_path / "ensemble", ["A", "B"], num_frames=6)
    # A short path: the paths of sockets have a limited length.
    with tempfile.TemporaryDirectory(prefix="v") as folder:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "serve.py"), "--ensemble", ensemble, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": folder},
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(": ", 1)[0]
            *_, last = [upload(url, content).json() for _ in range(6)]
            with requests.get(url + last["events"], stream=True, timeout=300) as listener:
                lines = listener.iter_lines(decode_unicode=True)
                assert next(lines) == "event: progress"
                process.send_signal(signal.SIGTERM)
                rest = [line for line in lines if line]
            process.wait(timeout=300)  # 5 s on a quiet machine
        finally:
            process.kill()
            process.communicate()
        assert rest[-2] == "event: failed"
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["reason"] == "stopping"
        assert process.returncode == 0
        assert list(Path(folder).glob("vidclf-serve-*")) == []
