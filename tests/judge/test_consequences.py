"""What follows from what, of findings that are seen in one run."""

from __future__ import annotations

from itertools import permutations

from vfio_verify.judge.consequences import RULES, roots

EXPLAINED = [(clause, cause) for rule in RULES for clause, _, cause in (what.partition(":") for what in rule.explains)]
EXPLAINING = [(rule.clause, rule.cause) for rule in RULES]
KINDS = sorted({(clause, cause or "any") for clause, cause in EXPLAINING + EXPLAINED})


def test_the_first_rule_that_applies_tells_the_root() -> None:
    assert roots([("ERROR_SET", "success"), ("CONTIGUOUS", "address"), ("FAULT_REPORTED", "mmap")]) == [2, 2, None]
    assert roots([("ERROR_SET", "success"), ("CONTIGUOUS", "address")]) == [1, None]
    assert roots([("ERROR_SET", "twice"), ("CONTIGUOUS", "address")]) == [None, None]


def test_what_is_told_as_a_root_follows_from_nothing_itself() -> None:
    for found in permutations(KINDS, 3):
        told = roots(list(found))
        assert all(told[root] is None for root in told if root is not None), found
