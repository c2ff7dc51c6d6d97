"""What can go wrong outside a subject: the user's input, or this program itself."""

from __future__ import annotations


class VfioVerifyError(Exception):
    """Base of every exception that this package raises on purpose."""

    exit_status = 3


class InputError(VfioVerifyError):
    """What the user gave cannot be used; the message says what was looked for and what to do."""

    exit_status = 2


class HarnessError(VfioVerifyError):
    """The harness failed, not the subject: a report from such a run would prove nothing."""

    exit_status = 3


class NotPermittedError(HarnessError):
    """This machine does not let a kernel fault be set up: what it would show is not exercised."""
