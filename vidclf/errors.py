"""Exceptions of vidclf: a wrong configuration or input, and a job that stops before its end.

Functions named `check_…` raise ConfigError unless a condition holds. For the common case, the value of a flag, they
call `vidclf.config.fields.require`.
"""

from __future__ import annotations

SUBMIT_AGAIN = "submit the same job again"
"""Last words of a message that a job stopped: what continues it."""


class ConfigError(ValueError):
    """The configuration or the input cannot be used. The message is one line for the user; the job ends with exit code
    2."""


class RunStopped(BaseException):
    """The job stopped before it finished all of its work. Finished work is kept; the job continues when submitted
    again.

    Derives from BaseException, like KeyboardInterrupt, so that libraries do not catch it as an ordinary error.
    """


class ErrorBudgetExceeded(RunStopped):
    """More videos were rejected (could not be read or decoded) than `--max-error-rate` allows; exit code 3.

    The cause is then not a few bad files, but more likely the storage or a wrong setting.
    """
