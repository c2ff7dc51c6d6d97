"""What a call must answer: refusals, ACCEPTS_VALID, FAULT_REPORTED, ERROR_SET, SURVIVES; and UNCHARGED, an advice."""

from __future__ import annotations

import errno
import mmap

from vfio_verify.judge.answered import unanswered_faults
from vfio_verify.judge.facts import MMAP, ClauseJudge, Facts, Finding
from vfio_verify.observation import BY_KERNEL, FAULTED, STEPS, UNPLANNED, Event
from vfio_verify.words import call_text, death_text, step_text

_MAP_NORESERVE = 0x4000  # asm-generic/mman.h; Python's mmap lacks it
_LARGE = 64 << 30
"""Bytes of a dmabuf that a machine may lack the memory for."""

_ENOUGH: dict[str, str] = {
    "read_only_descriptor": "a descriptor open for reading is enough for mappings that are only read",
    "sealed": "memory sealed against writing can be mapped to be read",
}


def _accepts_valid(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.expected.must_map or facts.failed_steps or facts.starved:
        return None
    if facts.seen.mapped:
        return []
    n = len(facts.case.iovec)
    fault = facts.case.kernel_fault
    enough = _ENOUGH.get(fault.kind) if fault is not None else None
    return [
        Finding(
            f"a well-formed layout is refused, although {enough}"
            if enough
            else "a well-formed layout is refused, and no step failed",
            f"a mapping of {n} segment{'s' * (n != 1)}, {facts.expected.total_size:#x} bytes",
            "failure" + (f": {facts.seen.message.decode(errors='backslashreplace')!r}" if facts.seen.message else ""),
        )
    ]


def _uncharged(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.expected.must_map:
        return None
    for event in facts.events(UNPLANNED):
        if _charged(event) and event.errno == errno.ENOMEM and _LARGE <= facts.length <= event.a1:
            return [
                Finding(
                    f"a dmabuf of {facts.length:#x} bytes fails, because its placeholder is charged against memory",
                    "a placeholder that is not charged: with MAP_NORESERVE, or private and PROT_NONE",
                    call_text(event, facts.case, facts.seen),
                )
            ]
    return [] if facts.seen.mapped and facts.length >= _LARGE else None


def _charged(event: Event) -> bool:
    """Does the kernel take an anonymous mapping like this for memory in use? As mm/vma.c and mm/shmem.c have it."""
    if event.step != MMAP or not event.a3 & mmap.MAP_ANONYMOUS or event.a3 & _MAP_NORESERVE:
        return False
    return bool(event.a3 & mmap.MAP_SHARED or event.a2 & mmap.PROT_WRITE)


def _refusing(name: str) -> ClauseJudge:
    """The judge of a clause that asks for a refusal."""

    def refused(facts: Facts) -> list[Finding] | None:
        reasons = [refusal for refusal in facts.expected.refusals if refusal.clause == name]
        if not reasons or not facts.completed:
            return None
        if not facts.seen.mapped:
            return []
        return [Finding(f"mapped, although {reason.reason}", "failure", "success") for reason in reasons]

    return refused


def _fault_reported(facts: Facts) -> list[Finding] | None:
    unanswered = unanswered_faults(facts) if facts.failed_steps and facts.completed else []
    if not unanswered:
        return None
    if not facts.seen.mapped:
        return []
    event = unanswered[0]
    return [
        Finding(
            f"success, although a step failed: {step_text(event)}",
            "failure, or another step that did the same with success",
            "success",
        )
    ]


def _error_set(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    if seen.death is not None:
        if not seen.death.note.startswith("an error was set twice"):
            return None
        summary = "an error is set over another one, which aborts"
        return [Finding(summary, "one error", seen.death.note, "twice")]
    if not seen.error_given or not facts.has_errp:
        return None
    text = seen.message.decode(errors="backslashreplace")
    if seen.mapped:
        if seen.error_left:
            return [Finding("success sets an error", "no error", repr(text), "success")]
        return []
    if not seen.error_left:
        return [Finding("failure sets no error", "an error in *errp", "*errp is NULL", "none")]
    if not text.strip():
        return [Finding("the error's message is empty", "a message", repr(text), "empty")]
    if text.endswith("\n"):
        summary = "the error's message ends in a newline"
        return [Finding(summary, repr(text.rstrip("\n")), repr(text), "newline")]
    return []


def _survives(facts: Facts) -> list[Finding] | None:
    death = facts.seen.death
    if death is None:
        if facts.seen.bad_frees:
            return [
                Finding(
                    "frees what is not allocated, on which the C library aborts", "no such free", "a bad free", "free"
                )
            ]
        return []
    last = facts.seen.event(facts.seen.n_events - 1) if facts.seen.events else None
    failed = last is not None and bool(last.flags & (FAULTED | BY_KERNEL))
    after = f" after {step_text(last)}" if last is not None and failed else ""
    where = f"{STEPS[last.step]}, {failed}" if last is not None else "start"
    text = death_text(death)
    # Not by the address: one fault of the subject's may read many.
    cause = f"{death.how} {death.signal} after {where}"
    return [Finding(f"{text}{after}", "a return, with success or failure", text, cause)]


CLAUSES: dict[str, ClauseJudge] = {
    "ACCEPTS_VALID": _accepts_valid,
    "FAULT_REPORTED": _fault_reported,
    "ERROR_SET": _error_set,
    "SURVIVES": _survives,
    "UNCHARGED": _uncharged,
    **{name: _refusing(name) for name in ("SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY")},
}
