"""The tasks of a search, and the processes that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, NamedTuple

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import end, kill, processes, submit
from vfio_verify.campaign.shard import ShardResult, run_kernel_faults, run_shard
from vfio_verify.campaign.shards import Shard
from vfio_verify.judge.attribution import Key
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import KernelFaultKind

_KERNEL_FAULTS_EVERY, _KERNEL_FAULTS_AT = 7, 3
"""Shards: one of so many is run under the kernel's own failures too. A prime number, so that all parts get some."""


class Known(NamedTuple):
    """What a search has already: ways of violating clauses, and what of the subject's code ran."""

    keys: frozenset[Key]
    covered: bytes


def run_part(
    subject: Subject, options: Options, shard: Shard, kinds: Sequence[KernelFaultKind], known: Known
) -> ShardResult:
    """A shard, and of some shards also layouts under kernel faults of these kinds. What is `known` is not told."""
    result = run_shard(subject, options, shard, reached=known.covered)
    if kinds and shard.number % _KERNEL_FAULTS_EVERY == _KERNEL_FAULTS_AT:
        result.add(run_kernel_faults(subject, options, tuple(result.mapped.values()), kinds))
    result.candidates.forget(known.keys)
    result.mapped = {}
    return result


class Workers:
    """An executor that someone else keeps. `at_once` says how many tasks it runs at once now: a cluster's workers may
    come and go."""

    def __init__(self, executor: Executor, lost: tuple[type[Exception], ...], at_once: Callable[[], int]) -> None:
        self._executor, self.lost, self._at_once = executor, lost, at_once

    @property
    def slots(self) -> int:
        """Tasks that can run at once; none while a cluster has no worker."""
        return self._at_once()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._executor.submit(function, *arguments)

    def renew(self) -> bool:
        """Replace what runs tasks, and give up those under way. False if that cannot be done."""
        return False

    def end(self) -> None:
        """What is not yet done is cancelled task by task."""


class OwnWorkers(Workers):
    """Processes of our own. When one of them ends unexpectedly, all are replaced."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._pool = jobs, processes(jobs)
        super().__init__(self._pool, (BrokenExecutor,), lambda: jobs)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return submit(self._pool, function, *arguments)

    def renew(self) -> bool:
        self.end()
        self._pool = processes(self._jobs)
        return True

    def end(self) -> None:
        kill(self._pool)
        end(self._pool)
