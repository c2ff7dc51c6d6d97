"""Which finding of a run is the root, and which ones follow from it. Pure.

A rule says what a root explains where both are seen in one run. What is explained in every run in which it is seen
follows from its root, and is told there; what is seen once without it is a finding of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from vfio_verify.values.cause import is_of_kind

_MAPPING = ("CONTIGUOUS", "CONTENTS", "READ_ONLY", "REPEATABLE")
"""What can be wrong with a mapping as a whole."""


class Rule(NamedTuple):
    """A finding of this clause, by a cause of this kind, explains those of the others: a clause, or a clause and a kind
    of cause with a colon between them."""

    clause: str
    cause: str
    explains: tuple[str, ...]


RULES = (
    # An error set twice aborts by itself.
    Rule("ERROR_SET", "twice", ("SURVIVES:error set twice",)),
    # Who goes on after a failed step returns what that step has left, or has made no error of.
    Rule("FAULT_REPORTED", "", (*_MAPPING, "ERROR_SET:success", "NO_WINDOW:returned")),
    # What is freed is no more held, and is not there.
    Rule("NO_WINDOW", "again", ("CONFINED:mmap: unmapped before", "CONFINED:mmap: there is none")),
    Rule("NO_WINDOW", "returned", (*_MAPPING, "ERROR_SET:success")),
    # A call that goes astray is not carried out: it removes and maps nothing. One astray, and the next is, too.
    Rule("CONFINED", "", ("CONFINED", *_MAPPING, "UNMAP_ON_ERROR", "SIZE_AGREES", "WITHIN_BLOCK", "NOT_EMPTY")),
    # An answer that is no address of a page is none of a mapping.
    Rule("CONTIGUOUS", "address", (*_MAPPING, "ERROR_SET:success")),
    # Overlays out of their place leave gaps and edges.
    Rule("CONTIGUOUS", "order", _MAPPING),
    # Memory that is a copy, or private, is no overlay, and is not accessed as one.
    Rule("CONTENTS", "copy", ("CONTIGUOUS:anonymous", "READ_ONLY", "REPEATABLE")),
    Rule("CONTENTS", "private", ("READ_ONLY:private", "REPEATABLE")),
    *(Rule(clause, "", ("REPEATABLE",)) for clause in ("CONTIGUOUS", "CONTENTS", "READ_ONLY", "NO_LEAK")),
    # A layout refused by mistake has no error to tell.
    Rule("ACCEPTS_VALID", "", ("ERROR_SET:none", "ERROR_SET:errno")),
    Rule("SURVIVES", "", ("REPEATABLE",)),
)
"""The first that applies to a finding tells its root. None explains what an earlier one has told to be a root."""


def roots(found: list[tuple[str, str]]) -> list[int | None]:
    """For each finding, a clause and a cause, the number of its root; None if it is one itself."""
    by: list[int | None] = [None] * len(found)
    for rule in RULES:
        root = next((i for i, one in enumerate(found) if by[i] is None and _is(one, rule.clause, rule.cause)), None)
        if root is None:
            continue
        for i, one in enumerate(found):
            if i != root and by[i] is None and any(_matches(one, what) for what in rule.explains):
                by[i] = root
    return by


def _is(one: tuple[str, str], clause: str, cause: str) -> bool:
    return one[0] == clause and is_of_kind(one[1], cause)


def _matches(one: tuple[str, str], what: str) -> bool:
    clause, _, cause = what.partition(":")
    return _is(one, clause, cause)
