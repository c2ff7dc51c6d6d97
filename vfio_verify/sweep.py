"""Which faults a layout is run under: every step of its faultless run, failed once, early and late."""

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
    """One plan for each position at which the faultless run can fail; mmap fails early and late at each."""
    plans: list[tuple[Fault, ...]] = []
    for step, count in zip(STEPS, faultless.counts, strict=False):
        if step == "mmap":
            for nth in range(1, count + 1):
                # The errno goes round, so that all positions meet all of them over many layouts.
                early, late = MMAP_ERRNOS[nth % 9], MMAP_ERRNOS[(nth + count) % 9]
                plans += [(Fault(step, nth, early),), (Fault(step, nth, late, "late"),)]
        else:
            errnos = _OTHER_ERRNOS.get(step, ("EINVAL",))
            plans += [(Fault(step, nth, errnos[nth % len(errnos)]),) for nth in range(1, count + 1)]
    return plans
