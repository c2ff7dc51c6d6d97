"""Which run is to blame for what was done to a worker, and which runs are made again because nobody knows yet."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from vfio_verify.errors import HarnessError, UnrealError
from vfio_verify.values.observation import Observation
from vfio_verify.worker.answers import End, Kind, Reply

_OF_OTHERS = (Kind.PARENT_ENDED, Kind.PARENT_STOPPED, Kind.REFUSED)
"""Ends for which somebody outside of this check may be to blame, even in a fresh process."""
_UNREADABLE = (errno.EBADMSG, errno.ENOBUFS)
"""Why a request is refused that is not as it should be: no fault of this machine."""


def any_may_have_done_it(answer: Reply | End, asked: int, finished: Sequence[Observation]) -> bool:
    """Whether one of several runs of a request did something to the process, and nothing tells which. A run that leaves
    a thread or the like behind is known: its request ends with it."""
    match answer:
        case Reply(progress, _, changed):
            changes = progress.changes or (changed and not finished[-1].left)
            return len(finished) > 1 and bool(changes)
        case End(kind):
            return asked > 1 and bool(kind.damage)


def is_certain(end: End) -> bool:
    """Whether the run that was going on ended the worker: it was in the subject's code, and that is believed."""
    return bool(end.progress.in_subject) and not end.kind.damage and end.kind is not Kind.REFUSED


class Doubt:
    """Decides, when a worker has ended, whether the run that was going on is to blame or is made again first.

    It is made again, once, if the damage may be an earlier run's, or not of this check at all. The core does no damage:
    where it seems to have, and does again, the harness has failed.
    """

    def __init__(self, what: str, *, is_core: bool) -> None:
        self._what, self._is_core = what, is_core
        self._again: set[int] = set()

    def is_to_be_made_again(self, end: End, *, number: int = 0, is_first: bool) -> bool:
        """Whether the run of this number is made again in a fresh process. `is_first` says that nothing was run before
        it in the one that ended. Raises UnrealError where this machine cannot make the case real, and HarnessError
        where the harness failed."""
        if end.kind is Kind.SUSPECTED:
            return True
        if is_certain(end):
            return False
        if number not in self._again and (self._is_core or not is_first or end.kind in _OF_OTHERS):
            self._again.add(number)
            return True
        if end.kind is Kind.REFUSED:
            kind = HarnessError if end.errno in _UNREADABLE else UnrealError
            raise kind(f"the world cannot make the {self._what} real: {os.strerror(end.errno)}")
        if self._is_core:
            raise HarnessError(f"the world itself fails: {end.death}")
        return False
