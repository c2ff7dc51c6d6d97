"""Which faults a layout is run under: every step of its faultless run, failed once and for good, early and late."""

from __future__ import annotations

from collections.abc import Sequence

from vfio_verify.case import Fault, Step
from vfio_verify.observation import STEPS, Observation

MMAP_ERRNOS = ("ENOMEM", "EINVAL", "EACCES", "EAGAIN", "EBADF", "ENODEV", "EPERM", "ENFILE", "EOVERFLOW")
"""What mmap(2) and a driver's own mmap step answer."""

_OTHER_ERRNOS: dict[Step, Sequence[str]] = {
    "munmap": ("ENOMEM", "EINVAL"),
    "mprotect": ("ENOMEM", "EACCES"),
    "mremap": ("ENOMEM", "EFAULT", "EAGAIN"),
    "dup": ("EMFILE", "EBADF"),
    "close": ("EINTR", "EIO"),
    "other_call": ("EMFILE",),
    "region_info": ("EINVAL", "ENOMEM", "ENODEV", "EIO"),
}


def fault_plans(faultless: Observation) -> list[tuple[Fault, ...]]:
    """Plans of one fault, for each position at which the faultless run can fail: only that step, and that step and all
    later ones of its kind. mmap also fails late at each."""
    return [
        (fault,)
        for step, count in zip(STEPS, faultless.counts, strict=False)
        for nth in range(1, count + 1)
        for fault in _faults(step, nth, count)
    ]


def _faults(step: Step, nth: int, count: int) -> Sequence[Fault]:
    # The errno goes round, so that every position meets every errno over many layouts.
    if step == "mmap":
        early, late = MMAP_ERRNOS[nth % 9], MMAP_ERRNOS[(nth + count) % 9]
        # What is worth another try may never succeed.
        lasting = ("EAGAIN", "ENOMEM")[(nth + count) % 2]
        return Fault(step, nth, early), Fault(step, nth, late, "late"), Fault(step, nth, lasting, persistent=True)
    errnos = _OTHER_ERRNOS.get(step, ("EINVAL",))
    once = Fault(step, nth, errnos[nth % len(errnos)])
    # The last step of its kind has no later ones.
    return (once, Fault(step, nth, once.errno, persistent=True)) if nth < count else (once,)
