"""The faults that a layout is run under.

As SQLite's tests do it: step 1 fails, then step 2, and so on, until a run meets no fault; each once transient (only
that call) and once persistent (that and all later ones of its kind), and mmap early and late. Then pairs: a step fails,
and after it one of those that the subject still makes, above all its cleanup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vfio_verify.values.case import Fault, Step
from vfio_verify.values.observation import FAULTED, STEPS, Observation

MMAP_ERRNOS = (
    *("ENOMEM", "EINVAL", "EACCES", "EAGAIN", "EBADF", "ENODEV", "EPERM"),
    *("ENFILE", "EOVERFLOW", "EBUSY", "EEXIST", "ETXTBSY", "EIO"),
)
"""What mmap(2) and a driver's own mmap step answer; EBUSY and EIO are from vfio-pci and the drivers beside it."""

OTHER_ERRNOS: dict[Step, Sequence[str]] = {
    "munmap": ("ENOMEM", "EINVAL"),
    "mprotect": ("ENOMEM", "EACCES", "EINVAL"),
    "mremap": ("ENOMEM", "EFAULT", "EAGAIN", "EINVAL"),
    "dup": ("EMFILE", "EBADF", "EBUSY", "EINTR", "ENOMEM"),
    "close": ("EINTR", "EIO", "EBADF", "ENOSPC", "EDQUOT"),
    "other_call": ("EMFILE", "ENFILE", "EACCES", "ENOENT", "EINVAL", "ENOMEM"),
    "region_info": ("EINVAL", "ENOMEM", "ENODEV", "EIO", "ENOTTY"),
    "region_fd": ("EINVAL", "ENOMEM", "ENODEV", "EMFILE"),
}
"""By the man page of each call; for the look-ups, what the ioctl or syscall behind them answers. A step that is not
here just fails: it has no errno."""

_NOT_GIVEN = ("EINVAL",)
_SHORT = 3
"""Mappings of a layout that is now and then run with every errno at every position."""
_EVERY = 8
"""One in so many short layouts is."""
_ALL = 16
"""Steps of a kind that are all failed, in each way."""
_EDGE = 4
"""Of more, so many of the first and of the last are failed, beside those around powers of two, and the middle one."""
_ROUND = 8
"""And so many of the rest, which are others in the next layout."""
_FEW = 1024
"""Steps of a kind above which a run takes too long for that: the middle one fails, and the last."""
_FEWEST = 4096
"""Steps of a kind above which a single mapping fails: the last."""
_MAX_PAIRS = 96
_LATER = 3
"""After a failure, so many of the first steps and of the last ones are failed too."""


def fault_plans(faultless: Observation, turn: int = 0) -> list[tuple[Fault, ...]]:
    """Plans of one fault, for each position at which the faultless run can fail; of many, for some (`positions`).

    The errno goes round with the position and the `turn`, the number of the layout: over some layouts every position
    meets each of them. One in eight short layouts meets all of them by itself. In a long list, a position between the
    first and the last fails in one way, and in another way in the next layout.
    """
    exhaustive = bool(faultless.counts) and turn % _EVERY == 0 and faultless.count("mmap") <= _SHORT
    plans: list[tuple[Fault, ...]] = []
    for step, count in zip(STEPS, faultless.counts, strict=False):
        for nth in positions(count, turn):
            faults = list(_all_faults(step, nth, count) if exhaustive else _faults(step, nth, count, turn))
            if count > _FEW:
                faults = [fault for fault in faults if _stands_for_all(fault, count)]
            elif count > _ALL and 2 < nth < count - 1:
                faults = [faults[(nth + turn) % len(faults)]]
            plans += [(fault,) for fault in faults]
    return plans


def positions(count: int, turn: int = 0) -> Sequence[int]:
    """Which of so many steps of a kind are failed: all of a few; of many, whose sweep would take seconds, the first
    ones, the last ones, those around powers of two, the middle one, and some that are others in the next layout; of
    thousands, one or two."""
    if count > _FEWEST:
        return (count,)
    if count > _FEW:
        return count // 2, count
    if count <= _ALL:
        return range(1, count + 1)
    powers = (1 << bit for bit in range(3, count.bit_length()))
    stride = -(-count // _ROUND)
    taken = {
        *range(1, _EDGE + 1),
        *(near for power in powers for near in (power - 1, power, power + 1)),
        count // 2,
        *range(1 + turn % stride, count + 1, stride),
        *range(count - _EDGE + 1, count + 1),
    }
    return sorted(nth for nth in taken if nth <= count)


def _stands_for_all(fault: Fault, count: int) -> bool:
    """Whether a fault is run among thousands of steps: mmap late in the middle and early at the end, others at the
    end, unless there are very many."""
    if fault.persistent or (count > _FEWEST and fault.step != "mmap"):
        return False
    return (fault.nth == count) != (fault.when == "late") if fault.step == "mmap" else fault.nth == count


def _faults(step: Step, nth: int, count: int, turn: int) -> Iterator[Fault]:
    def errno(by: int) -> str:
        return errnos[(nth + turn + by) % len(errnos)]

    errnos = MMAP_ERRNOS if step == "mmap" else OTHER_ERRNOS.get(step, _NOT_GIVEN)
    yield Fault(step, nth, errno(0))
    if step == "mmap":
        yield Fault(step, nth, errno(count), "late")
        yield Fault(step, nth, errno(5), "late", persistent=True)
        # What is worth another try may never succeed.
        yield Fault(step, nth, ("EAGAIN", "ENOMEM")[(nth + turn) % 2], persistent=True)
    elif step == "mremap":
        yield Fault(step, nth, errno(1), "late")
        yield Fault(step, nth, errno(2), "late", persistent=True)
    elif nth < count:  # the last step of its kind has no later ones
        yield Fault(step, nth, errno(0), persistent=True)


def _all_faults(step: Step, nth: int, count: int) -> Iterator[Fault]:
    for errno in MMAP_ERRNOS if step == "mmap" else OTHER_ERRNOS.get(step, _NOT_GIVEN):
        for persistent in (False, True) if step == "mmap" or nth < count else (False,):
            yield Fault(step, nth, errno, persistent=persistent)
            if step == "mmap":
                yield Fault(step, nth, errno, "late", persistent)


def pair_plans(
    plans: Sequence[tuple[Fault, ...]], observations: Sequence[Observation], turn: int = 0
) -> list[tuple[Fault, ...]]:
    """Plans of two faults: each transient one of `plans`, and a second in what the subject did after it."""
    pairs = [
        (*plan, second)
        for plan, seen in zip(plans, observations, strict=False)
        if not plan[0].persistent and seen.death is None and seen.flags_union & FAULTED and sum(seen.counts) <= 2 * _FEW
        for second in _later_faults(seen, turn)
    ]
    # The longer the runs, the fewer.
    longest = max((sum(seen.counts) for seen in observations if seen.counts), default=0)
    stride = len(pairs) * max(longest, 4 * _ALL) // (4 * _ALL * _MAX_PAIRS) + 1
    return pairs[turn % stride :: stride]


def _later_faults(seen: Observation, turn: int) -> Iterator[Fault]:
    """A fault for the steps that follow the one that failed."""
    flags, steps = seen.column("flags"), seen.column("step")
    first = next((i for i, value in enumerate(flags) if value & FAULTED), len(flags))
    later = range(first + 1, len(steps))
    for i in later if len(later) <= 2 * _LATER else (*later[:_LATER], *later[-_LATER:]):
        step = STEPS[steps[i]]
        nth = steps[: i + 1].count(steps[i])
        errnos = MMAP_ERRNOS if step == "mmap" else OTHER_ERRNOS.get(step, _NOT_GIVEN)
        late = step == "mmap" and (nth + turn) % 2 == 0
        # A cleanup that tries again is failed again in every other layout.
        persistent = step == "munmap" and turn % 2 == 1
        yield Fault(step, nth, errnos[(nth + turn) % len(errnos)], "late" if late else "early", persistent)
