"""Memory of the server's finished jobs, bounded by number and age.

Failed jobs have their own bound, so that no number of failures displaces a result.
"""

from __future__ import annotations

from collections import OrderedDict

from vidclf.server.job import Job, JobState

MAX_FINISHED = 64
"""Number of results that are kept, about 100 KB each. The oldest are dropped first."""

MAX_FAILED = 256
"""Number of failed jobs that are kept, about 100 bytes each. They displace each other, never a result."""


class FinishedJobs:
    """Memory of the finished jobs, done and failed ones apart.

    Not safe for several threads: the queue holds its lock when it uses this memory.
    """

    def __init__(self, keep_s: float) -> None:
        """Begin without jobs; a job is kept for at most `keep_s` seconds."""
        self._keep_s = keep_s
        self._jobs: dict[JobState, OrderedDict[str, Job]] = {
            JobState.DONE: OrderedDict(),
            JobState.FAILED: OrderedDict(),
        }

    def add(self, job: Job) -> None:
        """Keep a job that is done or has failed."""
        self._jobs[job.stage][job.id] = job

    def find(self, job_id: str) -> Job | None:
        return next((jobs[job_id] for jobs in self._jobs.values() if job_id in jobs), None)

    def remove(self, job: Job) -> None:
        del self._jobs[job.stage][job.id]

    def drop_old(self, now_s: float) -> None:
        """Forget finished jobs that are too many (done and failed ones are counted apart) or ended too long ago.

        `now_s` is the time on the queue's clock, in seconds.
        """
        for stage, most in ((JobState.DONE, MAX_FINISHED), (JobState.FAILED, MAX_FAILED)):
            jobs = self._jobs[stage]
            while jobs:
                oldest = next(iter(jobs.values()))
                if len(jobs) <= most and now_s - oldest.ended_s <= self._keep_s:
                    break
                del jobs[oldest.id]
