"""Errors that a user can mend, and signals that end a job."""

from __future__ import annotations


class ConfigError(ValueError):
    """The user asked for something that cannot be done; said in one line, before any work (exit 2)."""


class RunStopped(BaseException):
    """A run was ended before its last video; what is done is kept, and resubmitting continues.

    Like KeyboardInterrupt no Exception, so that no library in between takes it for a failure.
    """


class ErrorBudgetExceeded(RunStopped):
    """Too many videos were rejected for single bad files to be the cause (`--max-error-rate`)."""
