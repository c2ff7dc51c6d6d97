"""A refusal that left nothing behind, as nearly every run under a fault is: it is known at a glance to violate nothing.

What is said here follows from the clauses' own judges; tests/judge/test_refusal.py holds the two against each other.
"""

from __future__ import annotations

import operator
from functools import lru_cache

from vfio_verify.judge.answered import must_succeed
from vfio_verify.judge.facts import MMAP, MPROTECT, MUNMAP, OTHER_CALL, maps_before_it_unmaps
from vfio_verify.judge.outcome import wrong_messages
from vfio_verify.values.model import Expectation
from vfio_verify.values.observation import FAULTED, NESTED, OWNED, TOOK_AWAY, Observation

_USUAL = FAULTED | TOOK_AWAY | OWNED | NESTED
"""Flags of steps of which no clause has anything to say but that one failed."""

_remains = operator.attrgetter(
    *("mapped", "death", "strays", "bad_frees", "left", "fds_left", "fds_gone", "heap_live", "cached_frees"),
    *("references_kept", "references_dropped", "read_locks", "harness_changes"),
)
_NOTHING = (False, None, (), *(0,) * 10)


def exercised_by_clean_refusal(expected: Expectation, seen: Observation, *, has_errp: bool) -> frozenset[str] | None:
    """The clauses that a run exercised, if it is seen at once that it holds them all; None if each is to be judged."""
    if (
        _remains(seen) != _NOTHING
        or seen.flags_union & ~_USUAL
        or seen.pages_after != seen.pages_before
        or not seen.counts
        or not maps_before_it_unmaps(seen)
    ):
        return None
    failed = _failed(seen)
    if expected.must_map and not failed:
        return None
    is_told = seen.error_given and has_errp
    if is_told and not (seen.error_left and _is_clean(seen.message)):
        return None
    return _exercised(
        frozenset(refusal.clause for refusal in expected.refusals),
        is_told,
        any(map(must_succeed, failed)),
        bool(seen.counts[MMAP]),
        any(seen.counts[step] for step in (MUNMAP, MPROTECT, OTHER_CALL)),
    )


@lru_cache(maxsize=1024)
def _exercised(refusals: frozenset[str], is_told: bool, must_fail: bool, maps: bool, unmaps: bool) -> frozenset[str]:
    exercised = {
        "SURVIVES": True,
        "NO_LEAK": True,
        "ERROR_SET": is_told,
        "FAULT_REPORTED": must_fail,
        "UNMAP_ON_ERROR": maps,
        "CONFINED": maps or unmaps,
        "NO_WINDOW": maps,
    }
    return refusals | {clause for clause, is_so in exercised.items() if is_so}


@lru_cache(maxsize=1024)
def _is_clean(message: bytes) -> bool:
    return not list(wrong_messages(message.decode(errors="backslashreplace")))


def _failed(seen: Observation) -> list[int]:
    """The steps that the fault plan has failed, each by its kind."""
    if not seen.flags_union & FAULTED:
        return []
    steps = seen.column("step")
    return [steps[i] for i, flags in enumerate(seen.column("flags")) if flags & FAULTED]
