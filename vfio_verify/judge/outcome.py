"""What a call must answer: refusals, ACCEPTS_VALID, FAULT_REPORTED, ERROR_SET, SURVIVES; and UNCHARGED, which is
advice."""

from __future__ import annotations

import errno
import mmap
import re
from collections.abc import Iterator
from itertools import islice

from vfio_verify.judge.answered import unanswered_faults
from vfio_verify.judge.facts import MMAP, ClauseJudge, Facts, Finding, template
from vfio_verify.judge.relations import MAX_PIECES, SAYS, causes_of, explanations, wrong_pieces
from vfio_verify.values.backing import memory_of
from vfio_verify.values.cause import any_of, at, names_of, of_kind
from vfio_verify.values.observation import (
    BY_KERNEL,
    BY_RULE,
    ERROR_SET_TWICE,
    FAULTED,
    MAP_FIXED,
    MAP_NORESERVE,
    RAM,
    READ,
    SHARED,
    STEPS,
    UNPLANNED,
    Death,
    Event,
    Run,
)
from vfio_verify.values.words import call_text, death_text, step_text

_INNERMOST, _MAX_CALLED = 4, 4
"""How many innermost frames of a recursion may be those of what it calls, and how many places the other frames have."""
_LARGE = 64 << 30
"""Bytes: a machine may lack the memory for a dmabuf of this size."""

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
    enough = None if fault is None else _ENOUGH.get(fault.kind)
    expected = f"a mapping of {n} segment{'s' * (n != 1)}, {facts.expected.total_size:#x} bytes"
    seen = "failure" + (f": {facts.seen.message.decode(errors='backslashreplace')!r}" if facts.seen.message else "")
    if (wrong := _refused_by_rule(facts)) is not None:
        how, cause = wrong
        why = f"and no step failed: {how}"
    else:
        # By the way out: two kernel faults that show one mistake are one cause, and so is a refusal without any.
        cause = facts.way_out
        why = "and no step failed" if enough is None else f"although {enough}"
    return [Finding(f"a well-formed layout is refused, {why}", expected, seen, cause)]


def _refused_by_rule(facts: Facts) -> tuple[str, str] | None:
    """What is wrong with the overlay that the device has refused, and the cause; None if that is not why it failed."""
    refused = [event for event in facts.events(BY_RULE) if event.step == MMAP and event.a3 & MAP_FIXED]
    if not refused:
        return None
    event = refused[-1]
    if event.a3 & mmap.MAP_PRIVATE and not event.a3 & mmap.MAP_SHARED:
        return "an overlay is private, to which no VFIO device agrees", of_kind("refused", "private")
    start = event.a0 - facts.seen.base
    fds = facts.seen.device_fds
    if not 0 <= start < facts.segments.end or event.a4 not in fds:
        return None
    memory = memory_of(fds.index(event.a4)) if event.a4 != fds[-1] else RAM
    run = Run(start, start + facts.round_up(event.a1), READ | SHARED, memory, event.a5)
    wrong = list(islice(wrong_pieces(facts.expected.overlays, [run]), MAX_PIECES))
    causes = causes_of(explanations(piece, facts.segments) for piece in wrong)
    if not causes:
        return None
    says = "; or ".join(SAYS[name] for name in names_of(causes[0]))
    return f"an overlay that the device refuses: {says}", of_kind("refused", causes[0])


def _uncharged(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.expected.must_map or facts.failed_steps:
        return None  # where a placeholder that is not charged was refused, one that is may be tried
    for event in facts.events(UNPLANNED):
        if _charged(event) and event.errno == errno.ENOMEM and _LARGE <= facts.length <= event.a1:
            summary = f"a dmabuf of {facts.length:#x} bytes fails, because its placeholder is charged against memory"
            expected = "a placeholder that is not charged: with MAP_NORESERVE, or private and PROT_NONE"
            return [Finding(summary, expected, call_text(event, facts.case, facts.seen))]
    return [] if facts.seen.mapped and facts.length >= _LARGE else None


def _charged(event: Event) -> bool:
    """Whether the kernel counts an anonymous mapping like this as memory in use, by the rules of mm/vma.c and
    mm/shmem.c."""
    if event.step != MMAP or not event.a3 & mmap.MAP_ANONYMOUS or event.a3 & MAP_NORESERVE:
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
        return [Finding(f"mapped, although {r.reason}", "failure", "success", _ground(r.reason)) for r in reasons]

    return refused


_GROUNDS = (
    *(("in no RAMBlock", "no block"), ("plain RAM", "plain RAM"), ("different", "several")),
    *(("there are no segments", "no segments"), ("is empty", "an empty segment")),
    *(("begins", "address"), ("ends", "length"), ("past", "past the end")),
)


def _ground(reason: str) -> str:
    """A reason to refuse without what differs from case to case."""
    return next((ground for words, ground in _GROUNDS if words in reason), "sum")


def _fault_reported(facts: Facts) -> list[Finding] | None:
    unanswered = unanswered_faults(facts) if facts.failed_steps and facts.completed else []
    if not unanswered:
        return None
    if not facts.seen.mapped:
        return []
    event = unanswered[0]
    summary = f"success, although a step failed: {step_text(event)}"
    expected = "failure, or another step that did the same with success"
    return [Finding(summary, expected, "success", _what_failed(event), event.caller)]


def _what_failed(event: Event) -> str:
    """A step by its kind; reservations and overlays are two kinds."""
    step = STEPS[event.step]
    if event.step != MMAP:
        return step
    return "overlay" if event.a3 & MAP_FIXED else "reservation"


def _error_set(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    if seen.death is not None:
        if seen.death.code != ERROR_SET_TWICE:
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
        return [Finding("failure sets no error", "an error in *errp", "*errp is NULL", of_kind("none", _unsaid(facts)))]
    return list(wrong_messages(text))


def _unsaid(facts: Facts) -> str:
    """What failed or was wrong where no message says it."""
    if facts.failed_steps:
        return _what_failed(facts.seen.event(facts.failed_steps[-1]))
    size = "SIZE_AGREES" if facts.expected.either else "valid"  # a sum that reaches into the last page may be refused
    return any_of({refusal.clause for refusal in facts.expected.refusals}) or size


_LOST_ERRNO = re.compile(r"Unknown error -\d+|: Success$")
"""What strerror() has for a number below 0, and for none: neither is an errno."""


def wrong_messages(text: str) -> Iterator[Finding]:
    """What is wrong with an error's message."""
    if not text.strip():
        yield Finding("the error's message is empty", "a message", repr(text), "empty")
        return
    if text.endswith("\n"):
        yield Finding("the error's message ends in a newline", repr(text.rstrip("\n")), repr(text), "newline")
    if _LOST_ERRNO.search(text.rstrip("\n")):
        summary = "the errno is lost on its way to the error's message"
        yield Finding(summary, "what the step failed with", repr(text), of_kind("errno", template(text)))


def _survives(facts: Facts) -> list[Finding] | None:
    death = facts.seen.death
    if death is None:
        if facts.seen.bad_frees:
            summary = "frees what is not allocated, on which the C library aborts"
            return [Finding(summary, "no such free", "a bad free", "free")]
        return []
    last = facts.seen.event(facts.seen.n_events - 1) if facts.seen.events else None
    failed = last is not None and bool(last.flags & (FAULTED | BY_KERNEL))
    after = f" after {step_text(last)}" if last is not None and failed else ""
    text = death_text(death)
    return [Finding(f"{text}{after}", "a return, with success or failure", text, _death_cause(facts, last))]


def _recursion(death: Death) -> int | None:
    """A place of functions that call themselves, or each other, over and over. Which instruction of such a level meets
    the end of the stack depends on where the stack begins, and differs from process to process."""
    levels = set(death.frames[_INNERMOST:])
    many = len(death.frames) >= _INNERMOST + 4 * _MAX_CALLED
    return min(levels) if many and len(levels) <= _MAX_CALLED else None


def _death_cause(facts: Facts, last: Event | None) -> str:
    """How the process ended, and where the code was. Not by the address: one fault of the subject's may read many."""
    death = facts.seen.death
    assert death is not None
    if death.code == ERROR_SET_TWICE:
        return death.code
    if death.is_slow or death.how == "damage":
        return death.how
    if death.how == "signal" and (place := _recursion(death)) is not None:
        return f"signal {death.signal} in the recursion {at(place)}"
    if death.how == "signal" and death.frames:
        return f"signal {death.signal} {at(death.frames[0])}"
    if death.how == "abort":
        return of_kind("abort", template(death.note))
    return f"{death.how} {death.signal} after {STEPS[last.step] if last is not None else 'start'}"


CLAUSES: dict[str, ClauseJudge] = {
    "ACCEPTS_VALID": _accepts_valid,
    "FAULT_REPORTED": _fault_reported,
    "ERROR_SET": _error_set,
    "SURVIVES": _survives,
    "UNCHARGED": _uncharged,
    **{name: _refusing(name) for name in ("SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY")},
}
