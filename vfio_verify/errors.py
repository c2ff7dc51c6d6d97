"""What can go wrong outside a subject: the user's input, or this program itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class VfioVerifyError(Exception):
    """Base of every exception that this package raises on purpose."""

    exit_status = 3


class InputError(VfioVerifyError):
    """The user's input cannot be used; the message says what was looked for and what to do."""

    exit_status = 2


class HarnessError(VfioVerifyError):
    """The harness failed, not the subject: a report from such a run would prove nothing."""

    exit_status = 3


class UnrealError(HarnessError):
    """This machine cannot make real what a case lays out."""


class NotPermittedError(HarnessError):
    """This machine does not let a kernel fault be set up: what it would show is not exercised."""


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Raise HarnessError if processes or threads cannot be started, which is not a subject's fault."""
    try:
        yield
    except OSError as error:
        # Such as EAGAIN, if no more are allowed, or EPIPE, if the other end ended at once.
        raise HarnessError(f"cannot start {what}: {error.strerror or error}") from error
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise HarnessError(f"cannot start {what}: no more threads may be started") from error
