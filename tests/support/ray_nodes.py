"""A Ray cluster with a head and a worker, started with `ray start` on this machine and protected by a token.

It reads and writes nothing of the user: it has its own home directory, temporary directory, token and ports. Closing
it ends the process groups that it started, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 300.0
JOB_TIMEOUT_S = 480.0


class RayNodes:
    """A cluster with a head that runs no tasks, and one worker node with `num_cpus`."""

    def __init__(self, folder: Path, num_cpus: int) -> None:
        """`folder`: an empty directory with a short path, because a socket's path below it has at most 107 bytes."""
        self.token = secrets.token_hex(32)
        token_file = folder / "token"
        token_file.write_text(self.token)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(folder),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            # The default of 3 seconds kills a job on a busy machine before it has printed how many videos are left.
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
        }
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._num_cpus = num_cpus
        self.dashboard = ""

    def __enter__(self) -> RayNodes:
        gcs, dashboard, client, *agents = free_ports(5)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        head = ("--head", f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}")
        try:
            self._start("head", *head, "--num-cpus=0", agent_port=agents[0])
            self._wait_for(lambda: bool(self.get("/api/version")))
            self._start("worker", f"--address=127.0.0.1:{gcs}", f"--num-cpus={self._num_cpus}", agent_port=agents[1])
            self._wait_for(lambda: len(self.get("/nodes?view=summary")["data"]["summary"]) == 2)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def get(self, path: str, method: str = "GET") -> Any:
        """The answer of the dashboard's API to a request."""
        request = urllib.request.Request(self.dashboard + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def ray(self, *arguments: str) -> str:
        """Standard output of the command `ray`, run in the checkout; it must succeed."""
        command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, name: str, *entrypoint: str) -> None:
        """Submit a job with the checkout under `name`, without waiting for it."""
        address = ("--address", self.dashboard, "--runtime-env-json", '{"env_vars": {"OMP_NUM_THREADS": "1"}}')
        self.ray(
            "job", "submit", *address, "--submission-id", name, "--no-wait", "--working-dir", ".", "--", *entrypoint
        )

    def stop(self, name: str) -> None:
        """Stop a job with the request that `ray job stop` makes."""
        self.get(f"/api/jobs/{name}/stop", method="POST")

    def job(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/api/jobs/{name}"))

    def log(self, name: str) -> str:
        return str(self.get(f"/api/jobs/{name}/logs")["logs"])

    def logs(self, pattern: str) -> list[Path]:
        """Ray's log files of both nodes."""
        return sorted(self.folder.glob(f"*/session_2*/logs/{pattern}"))

    def ended(self, name: str) -> dict[str, Any]:
        """The job's details once it has ended."""
        self._wait_for(lambda: self.job(name)["status"] in ("SUCCEEDED", "FAILED", "STOPPED"), JOB_TIMEOUT_S)
        return self.job(name)

    def _start(self, name: str, *arguments: str, agent_port: int) -> None:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
            # Each node has its own temporary directory. In a shared one the second node to unpack a job's package
            # would delete it while the first node runs it.
            *("--node-ip-address=127.0.0.1", f"--temp-dir={self.folder / name}", "--object-store-memory=268435456"),
            *("--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={agent_port}"),
            *arguments,
        ]
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def _wait_for(self, holds: Any, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if holds():
                    return
            except OSError:  # not listening yet; urllib's errors are OSErrors
                pass
            logs = "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))
            assert all(process.poll() is None for process in self._processes), logs
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s\n{logs}"
            time.sleep(0.2)

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            with contextlib.suppress(ProcessLookupError):  # normally no process is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_ports(number: int) -> list[int]:
    """Different ports that nothing listens on at this moment."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
