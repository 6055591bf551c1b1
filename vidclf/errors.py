"""Exceptions of vidclf: wrong configuration (exit code 2), and jobs that stop before their end.

A function that raises ConfigError unless a condition holds is called `check_…`; `vidclf.config.fields.require` is the
common case of a flag with a rule.
"""

from __future__ import annotations


class ConfigError(ValueError):
    """The configuration or the input cannot be used. The message is one line for the user; the exit code is 2."""


class RunStopped(BaseException):
    """The job stopped before its last video. Finished work is kept, and submitting the job again continues.

    Derives from BaseException, like KeyboardInterrupt, so that libraries do not catch it as an ordinary error.
    """


class ErrorBudgetExceeded(RunStopped):
    """More videos were rejected than `--max-error-rate` allows, so single bad files are not the cause (exit code 3)."""
