"""What a worker is asked, and what comes back: a reply, or the worker's end."""

from __future__ import annotations

import enum
from typing import NamedTuple

from vfio_verify.values.observation import Death
from vfio_verify.worker import native


class Request(NamedTuple):
    """What is asked for, and what must be known of it while waiting for the answer."""

    data: bytes
    parts: int
    """How many answers it asks for: plans of a layout, or actions."""
    segments: int
    """The length of its longest iovec: a call may take longer with thousands of segments."""
    kernel_fault: bool = False
    """Whether it sets up a failure of the kernel's own, which may not be permitted."""
    forks: int = 0
    """How often the world is to fork."""


class Kind(enum.Enum):
    """How a worker ended. The value of a kind of damage says what is damaged."""

    BY_ITSELF = enum.auto()
    HANG = enum.auto()
    STOPPED = enum.auto()
    TOO_MUCH = enum.auto()
    SUSPECTED = enum.auto()
    """It seemed to take too much memory, and did not: what was asked for is asked for again."""
    REFUSED = enum.auto()
    """The request was refused before the subject was called, and the worker was ended for that."""
    FORGED = "its memory or its channel holds what no worker writes"
    BLIND = "descriptors that are not the subject's are closed or replaced"
    PARENT_ENDED = "the process that started it is ended"
    PARENT_STOPPED = "the process that started it is stopped"
    FORKED = "it makes a process in the place of one that the check makes of it"

    @property
    def damage(self) -> str:
        """What is damaged, if anything is: then nothing is believed that the worker wrote."""
        return self.value if isinstance(self.value, str) else ""


class Reply(NamedTuple):
    """The answer to a request. The worker lives."""

    progress: native.Progress
    data: memoryview
    changed: bool
    """Whether the process is not the one that it was."""


class End(NamedTuple):
    """The end of a worker that was asked. The next one is not started yet."""

    kind: Kind
    progress: native.Progress
    data: memoryview
    """The reply as far as it was written, and what was begun behind it."""
    death: Death
    errno: int = 0
    """Why a request was refused."""
