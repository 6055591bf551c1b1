"""Leases: the second job is refused, a dead job's lease is taken over, and a job that lost its lease stops."""

from __future__ import annotations

import json
import os
import re
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from vidclf import cli, storage
from vidclf.config import DiffConfig
from vidclf.errors import ConfigError, RunStopped
from vidclf.runs import lease, lease_storage, process_identity
from vidclf.runs.lease import Guard, LeaseLost, LeaseTaken, Output
from vidclf.runs.lease_storage import BucketClaims, Claim, ExclusiveFile, Place

ROOT = Path(__file__).resolve().parents[3]

ELSEWHERE = Claim(
    owner="f" * 32,
    job="extract.py",
    user="alice",
    host="node-7",
    pid=123,
    machine="another boot",
    started="42",
    since="2026-11-27T19:00:00+00:00",
    heartbeat="2026-11-27T19:00:00+00:00",
)


@pytest.fixture(params=["file", "claims"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Both storages of a lease. The claims of an object store also work in a local directory."""
    return (
        ExclusiveFile(str(tmp_path / "_lease.json"))
        if request.param == "file"
        else BucketClaims(str(tmp_path / "_lease"))
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease_storage, "SETTLE_S", 0.01)


def fresh(owner: str = "a", **changes: object) -> Claim:
    at = lease_storage.now()
    return replace(ELSEWHERE, owner=owner * 32, since=at, heartbeat=at, **changes)  # type: ignore[arg-type]


def never(claim: Claim) -> bool:
    return False


def always(claim: Claim) -> bool:
    return True


def write_lease(folder: Path, claim: Claim) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "_lease.json").write_bytes(claim.encoded())


def test_the_second_is_refused_until_the_first_gives_its_lease_back(place: Place) -> None:
    first, second = fresh("a"), fresh("b", job="train.py")
    assert place.acquire(first, never) is None
    blocking = place.acquire(second, never)
    assert blocking is not None
    assert (blocking.owner, blocking.job, blocking.user, blocking.host, blocking.pid) == (
        "a" * 32,
        "extract.py",
        "alice",
        "node-7",
        123,
    )
    place.release(second)  # does not hold the lease
    assert place.is_held(first)
    place.release(first)
    assert place.acquire(second, never) is None
    assert [claim.job for claim in place.claims()] == ["train.py"]


def test_of_many_at_once_one_holds(place: Place, quick: None) -> None:
    claims = [fresh(letter) for letter in "0123456789abcdef"]
    barrier = threading.Barrier(len(claims))

    def acquire(claim: Claim) -> Claim | None:
        barrier.wait()
        return place.acquire(claim, never)

    with ThreadPoolExecutor(len(claims)) as pool:
        refused_by = list(pool.map(acquire, claims))
    assert [claim.owner for claim in place.claims()] == [claims[refused_by.index(None)].owner]
    assert refused_by.count(None) == 1


def test_of_many_that_take_a_dead_jobs_lease_one_holds(place: Place, quick: None) -> None:
    dead = fresh("f")
    assert place.acquire(dead, never) is None
    claims = [fresh(letter) for letter in "0123456789"]
    barrier = threading.Barrier(len(claims))

    def acquire(claim: Claim) -> None:
        barrier.wait()
        place.acquire(claim, lambda current: current.owner == dead.owner)

    with ThreadPoolExecutor(len(claims)) as pool:
        list(pool.map(acquire, claims))
    assert sum(place.is_held(claim) for claim in claims) == 1
    assert not place.is_held(dead)


def test_a_job_that_comes_back_does_not_take_its_lease_from_the_next(place: Place) -> None:
    first, second = fresh("a"), fresh("b")
    assert place.acquire(first, never) is None
    assert place.renew(first)
    assert place.acquire(second, always) is None
    assert (place.renew(first), place.renew(second)) == (False, True)
    place.release(first)
    assert [claim.owner for claim in place.claims()] == [second.owner]


def test_a_heartbeat_moves_the_claim_on(place: Place) -> None:
    claim = replace(fresh("a"), heartbeat="2026-11-27T19:00:00+00:00")
    assert place.acquire(claim, never) is None
    place.renew(claim)
    assert place.claims()[0].heartbeat > "2026-11-27T19:00:00+00:00"


def test_a_half_written_file_is_a_dead_jobs(tmp_path: Path, quick: None) -> None:
    path = tmp_path / "_lease.json"
    path.write_text('{"owner": "a')
    os.utime(path, (0, 0))
    place = ExclusiveFile(str(path))
    assert place.claims()[0].heartbeat == "1970-01-01T00:00:00+00:00"
    assert place.acquire(fresh("b"), lambda claim: claim.heartbeat < "2000") is None


def test_a_lease_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    place = ExclusiveFile(str(tmp_path / "_lease.json"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as on a full disk, a file can be made and not filled
    try:
        with pytest.raises(OSError, match="File too large"):
            place.acquire(fresh(), never)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_lease_refuses_in_one_line_that_names_its_job(tmp_path: Path) -> None:
    write_lease(tmp_path / "run", fresh())
    with pytest.raises(ConfigError) as refused, lease.held([Output(location=str(tmp_path / "run"))], "train.py"):
        raise AssertionError
    assert re.fullmatch(
        rf"--output {tmp_path}/run: extract\.py of alice on node-7 \(process 123, since \S+\) writes there, its last "
        r"heartbeat is \d s old; wait for its end, choose another directory, or --take-over, which stops it",
        str(refused.value),
    )
    assert json.loads((tmp_path / "run" / "_lease.json").read_bytes())["owner"] == "a" * 32


def test_a_stale_lease_is_taken_over_once_its_heartbeat_stands_still(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lease(tmp_path / "run", ELSEWHERE)
    with lease.held([Output(location=str(tmp_path / "run"))], "train.py"):
        assert json.loads((tmp_path / "run" / "_lease.json").read_bytes())["job"] == "train.py"
    message = "extract.py on node-7 gave its last heartbeat at 2026-11-27T19:00:00+00:00: waiting for one more\n"
    assert capsys.readouterr().err == message


def test_a_heartbeat_by_a_clock_that_is_behind_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 1.0)
    write_lease(tmp_path / "run", ELSEWHERE)
    beat = replace(ELSEWHERE, heartbeat="2026-11-27T19:00:10+00:00")
    timer = threading.Timer(0.3, write_lease, (tmp_path / "run", beat))
    timer.start()
    with pytest.raises(ConfigError, match="writes there"), lease.held([Output(location=str(tmp_path / "run"))], "t"):
        raise AssertionError
    timer.join()


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    new_claim = lease._claim("extract.py")
    claim = replace(new_claim, pid=child.pid, started=process_identity.started(child.pid) or "")
    place = ExclusiveFile(str(tmp_path / "_lease.json"))
    assert not lease.is_dead(claim, place)
    child.kill()
    while process_identity.started(child.pid) is not None:  # a killed process counts as ended before it is waited for
        time.sleep(0.01)
    assert lease.is_dead(claim, place)
    child.wait()
    assert lease.is_dead(replace(new_claim, started="1"), place), "another process has its number now"


def test_take_over_stops_the_job_that_held_the_lease(tmp_path: Path, quick: None) -> None:
    # In a process of its own: with AMX in use and the small signal stack of faulthandler, a signal is a SIGSEGV.
    output = tmp_path / "run"
    process = holder(output)
    place = lease_storage.place(str(output))
    assert place.acquire(fresh("b", job="train.py"), always) is None
    assert process.communicate(timeout=300)[1] == f"stopped: train.py of alice on node-7 has taken {output} over\n"
    assert process.returncode == 1
    assert [claim.job for claim in place.claims()] == ["train.py"]


def test_a_guard_refuses_after_a_take_over(tmp_path: Path) -> None:
    output = Output(location=str(tmp_path / "run"))
    place = lease_storage.place(output.location)
    with lease.held([output], "extract.py"):
        guard = lease.guard(output.location)
        guard.check()
        assert place.acquire(fresh("b", job="train.py"), always) is None
        with pytest.raises(LeaseTaken, match="another job has taken this output over"):
            guard.check()


@pytest.mark.parametrize("below", ["_passes/keyframes", "_passes/full", "quarantine"])
def test_a_directory_inside_an_output_has_its_guard(tmp_path: Path, below: str) -> None:
    output = Output(location=str(tmp_path / "run"))
    with lease.held([output], "classify.py"):
        guard = lease.guard(storage.join(output.location, below))
        guard.check()
        assert lease.guard(str(tmp_path / "runs" / below)).claim is None
        assert lease_storage.place(output.location).acquire(fresh("b", job="train.py"), always) is None
        with pytest.raises(LeaseTaken, match=f"^{output.location}: another job has taken this output over"):
            guard.check()


def test_a_bucket_output_with_a_slash_at_its_end_guards_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Guard(location="mock://bucket/run/", claim=fresh())
    monkeypatch.setitem(lease._held, lease._key("mock://bucket/run/"), held)
    assert lease.guard("mock://bucket/run/_passes/full") == held
    assert lease.guard("mock://bucket/run/") == held
    assert lease.guard("mock://bucket/run2").claim is None


def test_a_single_file_is_guarded_by_the_lease_beside_it(tmp_path: Path) -> None:
    output = Output(location=str(tmp_path / "w.bin"), is_file=True)
    with lease.held([output], "quantize.py"):
        guard = lease.guard(output.location)
        guard.check()
        assert lease_storage.place(output.location, is_file=True).acquire(fresh("b"), always) is None
        with pytest.raises(LeaseTaken):
            guard.check()


def test_take_over_is_told_by_the_flag(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "STOPPING_S", 0.5)
    write_lease(tmp_path / "run", fresh())
    start = time.monotonic()
    with lease.held([Output(location=str(tmp_path / "run"))], "train.py", take_over=True):
        assert time.monotonic() - start >= 0.55
        assert json.loads((tmp_path / "run" / "_lease.json").read_bytes())["job"] == "train.py"
    message = "taken over from extract.py of alice on node-7: waiting 1 s until it has stopped\n"
    assert capsys.readouterr().err == message


def test_a_job_that_takes_over_starts_after_the_first_has_stopped(tmp_path: Path, quick: None) -> None:
    process = holder(tmp_path / "run")
    with lease.held([Output(location=str(tmp_path / "run"))], "train.py", take_over=True):
        assert process.poll() == 1
    process.communicate()


def test_a_gone_job_is_taken_over_from_without_a_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lease(tmp_path / "run", replace(lease._claim("extract.py"), started="1"))
    with lease.held([Output(location=str(tmp_path / "run"))], "train.py", take_over=True):
        pass
    assert capsys.readouterr().err == ""


def test_the_wait_after_a_take_over_ends_on_sigterm(tmp_path: Path) -> None:
    write_lease(tmp_path / "run", fresh())
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run"), "take over"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = "taken over from extract.py of alice on node-7: waiting 2 s until it has stopped\n"
    assert process.stderr.readline() == line
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=300) == ("", "stopped by SIGTERM\n")
    assert process.returncode == 1
    assert not (tmp_path / "run" / "_lease.json").exists()


def test_without_a_lease_nothing_is_guarded() -> None:
    assert lease.guard("/nowhere") == Guard(location="/nowhere", claim=None)
    lease.guard("/nowhere").check()


def test_the_end_leaves_nothing_of_the_lease_also_after_an_error(tmp_path: Path) -> None:
    outputs = [Output(location=str(tmp_path / "a" / "b")), Output(location=str(tmp_path / "w.bin"), is_file=True)]

    def work() -> None:
        with lease.held(outputs, "extract.py"):
            assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["_lease.json", "w.bin.lease.json"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_refused_second_output_gives_the_first_back(tmp_path: Path) -> None:
    write_lease(tmp_path / "second", fresh())
    outputs = [Output(location=str(tmp_path / "first")), Output(location=str(tmp_path / "second"), flag="--x")]
    with pytest.raises(ConfigError, match=f"^--x {tmp_path}/second: "), lease.held(outputs, "classify.py"):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


@pytest.mark.parametrize(("held", "wanted"), [("run", "run/resnet50"), ("run/resnet50", "run")])
def test_a_directory_above_or_below_one_that_is_written_is_refused(tmp_path: Path, held: str, wanted: str) -> None:
    (tmp_path / "run" / "resnet50").mkdir(parents=True)
    write_lease(tmp_path / held, fresh())
    with pytest.raises(ConfigError, match=f"--output {tmp_path / held}: extract.py of alice"):  # noqa: SIM117
        with lease.held([Output(location=str(tmp_path / wanted))], "extract.py"):
            raise AssertionError
    assert [path.parent for path in tmp_path.rglob("_lease.json")] == [tmp_path / held]


def test_an_output_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for location in ("file", "file/below"):
        with pytest.raises(ConfigError, match=rf"^--output {tmp_path}/{location}: must be a .*$"):  # noqa: SIM117
            with lease.held([Output(location=str(tmp_path / location))], "extract.py"):
                raise AssertionError


def test_a_lease_is_no_content_of_its_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with lease.held([Output(location=str(run))], "extract.py"):
        assert storage.list_files(str(run), recursive=True) == []
        (run / "deeper").mkdir()
        (run / "deeper" / "part-0.parquet").write_text("")
        (run / "notes").write_text("")
        storage.delete_tree(str(run))
        assert [path.name for path in run.iterdir()] == ["_lease.json"]
    assert not run.exists()


HOLDER = """
import sys, time
from vidclf.errors import RunStopped
from vidclf.runs import lease
lease.HEARTBEAT_S = 0.05
try:
    with lease.held([lease.Output(location=sys.argv[1])], "holder.py", take_over=len(sys.argv) > 2):
        print("held", flush=True)
        time.sleep(60)
except RunStopped as stopped:
    sys.exit(str(stopped))
"""


def holder(output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_sigterm_gives_the_lease_back(tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=300)[1] == "stopped by SIGTERM\n"
    assert process.returncode == 1
    assert not (tmp_path / "run").exists()


def test_a_killed_jobs_lease_is_the_next_ones_at_once(tmp_path: Path) -> None:
    output = Output(location=str(tmp_path / "run"))
    process = holder(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holder\.py of"), lease.held([output], "extract.py"):
        raise AssertionError
    process.kill()
    process.communicate()
    with lease.held([output], "extract.py"):
        pass


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("extract", ("--manifest", "m.parquet")),
        ("classify", ("--manifest", "m.parquet", "--ensemble", "e")),
        ("train", ("--features", "f")),
        ("tune", ("--features", "f", "--space", "s.yaml")),
        ("evaluate", ("--predictions", "p", "--manifest", "m.parquet")),
        ("diff", ("--before", "p", "--after", "q")),
        ("export", ("--run", "p", "--to", "fiftyone")),
        ("quantize", ("--input", "i", "--backbone", "resnet50")),
    ],
)
def test_every_job_refuses_a_directory_that_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.parquet").touch()
    output = tmp_path / ("w.safetensors" if name == "quantize" else "run")
    if name == "quantize":
        (tmp_path / "w.safetensors.lease.json").write_bytes(fresh().encoded())
    else:
        write_lease(output, fresh())
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments, "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    assert message.startswith(f"{name}.py: error: --output {output}: extract.py of alice on node-7")


def test_the_directory_of_saved_features_has_a_lease_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.parquet").touch()
    write_lease(tmp_path / "saved", fresh())
    arguments = ["--manifest", "m.parquet", "--ensemble", "e", "--output", "run", "--save-features", "saved"]
    monkeypatch.setattr(sys, "argv", ["classify.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / "classify.py"), run_name="__main__")
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    assert message.startswith("classify.py: error: --save-features saved: extract.py of alice on node-7 (process 123")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.parquet", "saved"]


def test_take_over_is_of_one_submission(tmp_path: Path) -> None:
    config = DiffConfig(before="p", after="q", output=str(tmp_path), take_over=True)
    cli.write_run_config(config, config.output)
    assert "take_over:" not in (tmp_path / "run_config.yaml").read_text()


def test_a_lost_lease_is_a_stop_and_no_error() -> None:
    assert issubclass(LeaseLost, RunStopped)
