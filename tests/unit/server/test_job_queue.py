"""The server's queue of videos, its finished jobs, and its estimates of progress."""

from __future__ import annotations

import threading

import pytest

from vidclf import cli
from vidclf.config import ServeConfig
from vidclf.schema import RejectReason
from vidclf.server.finished_jobs import MAX_FAILED, MAX_FINISHED
from vidclf.server.job import WORK, Job, JobState
from vidclf.server.job_estimates import Pace, percent_done
from vidclf.server.job_queue import JobQueue
from vidclf.server.refusals import Problem, Refused


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def submit(queue: JobQueue, name: str = "a.mp4", size_bytes: int = 1000) -> Job:
    return queue.submit(name, path=f"/private/{name}", size_bytes=size_bytes)


def finish(queue: JobQueue, clock: Clock, decode_s: float = 2.0, classify_s: float = 1.0) -> Job:
    job = queue.take(0)
    assert job is not None
    queue.enter(job, JobState.DECODING)
    clock.now_s += decode_s
    queue.enter(job, JobState.CLASSIFYING)
    clock.now_s += classify_s
    queue.finish(job, {"label": "A"})
    return job


def test_a_place_is_taken_by_a_video_that_is_there() -> None:
    queue = JobQueue(2, keep_s=60)
    submit(queue)
    assert not queue.is_full()
    submit(queue)
    assert queue.is_full()
    with pytest.raises(Refused) as refused:
        submit(queue)
    assert refused.value.reason is Problem.QUEUE_FULL
    assert queue.lengths() == {"waiting": 2, "running": 0}


def test_the_one_in_work_takes_no_place_in_the_queue() -> None:
    queue = JobQueue(1, keep_s=60)
    first = submit(queue)
    assert queue.is_full()
    assert queue.take(0) is first
    second = submit(queue)
    assert queue.lengths() == {"waiting": 1, "running": 1}
    assert queue.describe(second)["position"] == 1


def test_a_video_is_discarded_before_its_result_is_seen() -> None:
    discarded: list[str] = []
    clock = Clock()
    queue = JobQueue(4, 60, discarded.append, clock)
    done, failed = submit(queue, "a.mp4"), submit(queue, "b.mp4")
    finish(queue, clock)
    assert discarded == ["/private/a.mp4"]
    queue.take(0)
    queue.fail(failed, RejectReason.TRUNCATED)
    assert discarded == ["/private/a.mp4", "/private/b.mp4"]
    assert queue.describe(done)["result"] == {"label": "A"}
    description = queue.describe(failed)
    assert description["stage"] == "failed"
    assert description["error"]["reason"] == "truncated"


def test_results_are_forgotten_by_age_and_by_number() -> None:
    clock = Clock()
    queue = JobQueue(1, keep_s=60, clock=clock)
    old = submit(queue)
    finish(queue, clock)
    assert queue.find(old.id) is old
    clock.now_s += 61
    with pytest.raises(Refused) as refused:
        queue.find(old.id)
    assert refused.value.reason is Problem.UNKNOWN_JOB
    jobs = []
    for _ in range(MAX_FINISHED + 1):
        jobs.append(submit(queue))
        finish(queue, clock, 0.001, 0.001)
    with pytest.raises(Refused):
        queue.find(jobs[0].id)
    assert queue.find(jobs[1].id) is jobs[1]


def test_the_help_states_how_many_results_and_failures_are_kept() -> None:
    text = f"At most {MAX_FINISHED} results and {MAX_FAILED} failures are kept."
    assert text in cli.field_docs(ServeConfig)["keep_results"]


def test_who_waits_for_a_change_hears_of_it() -> None:
    queue = JobQueue(1, keep_s=60)
    job = submit(queue)
    version = job.version
    returned = threading.Event()

    def wait() -> None:
        queue.wait_for_change(job, version, 30)
        returned.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not returned.wait(0.05)
    queue.take(0)
    queue.enter(job, JobState.DECODING)
    assert returned.wait(5)


def test_a_closed_queue_lets_everyone_go() -> None:
    queue = JobQueue(1, keep_s=60)
    submit(queue)
    queue.close()
    assert queue.take(30) is None
    with pytest.raises(Refused) as refused:
        submit(queue)
    assert refused.value.reason is Problem.STOPPING


def test_a_queue_that_closes_fails_what_is_not_done() -> None:
    discarded: list[str] = []
    clock = Clock()
    queue = JobQueue(4, 60, discarded.append, clock)
    done, running, waiting = (submit(queue, name) for name in ("a.mp4", "b.mp4", "c.mp4"))
    finish(queue, clock)
    assert queue.take(0) is running
    queue.enter(running, JobState.DECODING)
    queue.close()
    assert [queue.describe(job)["stage"] for job in (done, running, waiting)] == ["done", "failed", "failed"]
    assert queue.describe(running)["error"]["reason"] == queue.describe(waiting)["error"]["reason"] == "stopping"
    assert sorted(discarded) == ["/private/a.mp4", "/private/b.mp4", "/private/c.mp4"]
    # A result of the worker is too late then.
    queue.finish(running, {"label": "A"})
    assert queue.describe(running)["error"]["reason"] == "stopping"


def test_failures_make_way_for_each_other_and_never_a_result_for_them() -> None:
    clock = Clock()
    queue = JobQueue(1, keep_s=10**9, clock=clock)
    done = submit(queue)
    finish(queue, clock)
    failed = []
    for _ in range(MAX_FAILED + 1):
        failed.append(submit(queue))
        queue.take(0)
        queue.fail(failed[-1], RejectReason.NOT_A_VIDEO)
        clock.now_s += 1
    assert queue.find(done.id) is done
    assert queue.find(failed[1].id) is failed[1]
    with pytest.raises(Refused):
        queue.find(failed[0].id)


def test_a_cancelled_job_ends_at_once_wherever_it_is() -> None:
    discarded: list[str] = []
    queue = JobQueue(4, 60, discarded.append)
    running, waiting, last = (submit(queue, name) for name in ("a.mp4", "b.mp4", "c.mp4"))
    queue.take(0)
    queue.enter(running, JobState.DECODING)
    queue.cancel(waiting.id)
    assert queue.describe(waiting)["error"]["reason"] == "cancelled"
    assert queue.describe(last)["position"] == 1
    queue.cancel(running.id)
    assert not queue.is_wanted(running)
    assert discarded == ["/private/b.mp4", "/private/a.mp4"]
    # The worker notices it at the next state, and takes the next job after it has ended this one.
    with pytest.raises(Refused) as refused:
        queue.enter(running, JobState.CLASSIFYING)
    assert queue.fail(running, refused.value.reason) is Problem.CANCELLED
    assert queue.describe(running)["error"]["reason"] == "cancelled"
    assert queue.take(0) is last
    queue.finish(last, {"label": "A"})
    assert queue.describe(queue.cancel(last.id))["stage"] == "done"
    with pytest.raises(Refused):
        queue.find(last.id)


def test_a_video_that_was_cancelled_while_it_was_fetched_leaves_no_file() -> None:
    discarded: list[str] = []
    queue = JobQueue(1, 60, discarded.append)
    job = queue.submit("a.mp4", uri="https://videos.example/a.mp4")
    queue.take(0)
    queue.enter(job, JobState.FETCHING)
    queue.cancel(job.id)
    with pytest.raises(Refused):
        queue.is_at(job, "/private/a")
    assert discarded == ["/private/a"]


def test_time_left_is_learnt_from_videos_before_by_their_size() -> None:
    clock = Clock()
    queue = JobQueue(4, 60, clock=clock)
    first = submit(queue, size_bytes=1000)
    assert queue.describe(first)["eta_s"] is None
    finish(queue, clock, decode_s=2.0, classify_s=1.0)
    second, third = submit(queue, size_bytes=4000), submit(queue, size_bytes=1000)
    assert queue.describe(second)["eta_s"] == 9.0  # 4 × 2 s of decoding, 1 s of classifying
    assert queue.describe(third)["eta_s"] == 12.0  # and its own 3 s after that
    queue.take(0)
    queue.enter(second, JobState.DECODING)
    clock.now_s += 4.5
    description = queue.describe(second)
    assert (description["eta_s"], description["percent"]) == (4.5, 50.0)
    assert queue.describe(third)["eta_s"] == 7.5
    clock.now_s += 100
    assert queue.describe(second)["percent"] == pytest.approx(88.9)  # elapsed time alone does not end decoding


def test_percent_without_an_estimate_is_that_of_the_stage() -> None:
    assert percent_done(WORK[1:], JobState.DECODING, 7.0, dict.fromkeys(WORK, None)) == 15.0
    assert percent_done(WORK, JobState.CLASSIFYING, 7.0, dict.fromkeys(WORK, None)) == 60.0
    known: dict[JobState, float | None] = {JobState.FETCHING: 1.0, JobState.DECODING: 2.0, JobState.CLASSIFYING: 1.0}
    assert percent_done(WORK, JobState.CLASSIFYING, 0.5, known) == 87.5
    assert percent_done(WORK, JobState.CLASSIFYING, 50.0, known) == 99.0


def test_a_pace_of_unknown_sizes_is_unknown() -> None:
    pace = Pace()
    pace.record(JobState.DECODING, 3.0, None)
    assert pace.expected_s(JobState.DECODING, 10) is None
    pace.record(JobState.DECODING, 3.0, 30)
    pace.record(JobState.DECODING, 1.0, 10)
    assert pace.expected_s(JobState.DECODING, 20) == 2.0
    assert pace.expected_s(JobState.DECODING, None) is None
