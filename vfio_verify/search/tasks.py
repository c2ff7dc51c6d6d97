"""The tasks of a search, and the processes that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, NamedTuple

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.processes import Processes
from vfio_verify.campaign.shard import ShardResult, run_kernel_faults, run_shard
from vfio_verify.campaign.shards import Shard
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidates
from vfio_verify.values.case import KernelFaultKind
from vfio_verify.values.cause import Key

_KERNEL_FAULTS_EVERY, _KERNEL_FAULTS_AT = 7, 3
"""One shard of so many is run under the kernel's own failures too. A prime number, so that all parts get some."""


class ShardTask(NamedTuple):
    """A shard that is to be run, by `run_part`."""

    shard: Shard
    attempts: int = 1


class CandidateTask(NamedTuple):
    """The candidates of one key, seen in a shard, of which one is to be confirmed and minimized."""

    key: Key
    candidates: Candidates
    shard: int
    attempts: int = 1


Task = ShardTask | CandidateTask


class Known(NamedTuple):
    """What a search has already: ways of violating clauses, and the code of the subject that ran."""

    keys: frozenset[Key]
    covered: bytes


def run_part(
    subject: Subject, options: Options, shard: Shard, kinds: Sequence[KernelFaultKind], known: Known
) -> ShardResult:
    """Run a shard, and after some shards also layouts under kernel faults of these kinds. The result is without the
    candidates that are known."""
    result = run_shard(subject, options, shard, reached=known.covered)
    if kinds and shard.number % _KERNEL_FAULTS_EVERY == _KERNEL_FAULTS_AT:
        result.add(run_kernel_faults(subject, options, tuple(result.mapped.values()), kinds))
    result.candidates.forget(known.keys)
    result.mapped = {}
    return result


class Workers:
    """What runs the tasks of a search: an executor that someone else keeps, or processes of its own.

    A given executor may have `lost`, the exceptions by which it tells that a task's process is gone, and `slots`, the
    number of tasks that it runs at once now: a cluster's workers come and go.
    """

    def __init__(self, given: Executor | None, jobs: int) -> None:
        self._jobs, self._executor = jobs, Processes(jobs) if given is None else given
        self.lost: tuple[type[Exception], ...] = getattr(given, "lost", (BrokenExecutor,))

    @property
    def slots(self) -> int:
        """Tasks that can run at once; none while a cluster has no worker."""
        return getattr(self._executor, "slots", self._jobs)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._executor.submit(function, *arguments)

    def renew(self) -> bool:
        """Replace the processes, and give up what they run. False if they are someone else's."""
        self.end()
        if isinstance(self._executor, Processes):
            self._executor = Processes(self._jobs)
            return True
        return False

    def end(self) -> None:
        """End the processes. In an executor that someone else keeps, each task is cancelled instead."""
        if isinstance(self._executor, Processes):
            self._executor.kill()
            self._executor.end()
