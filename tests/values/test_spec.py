"""The spec's document agrees with the code that judges it and with the tests that it names."""

from __future__ import annotations

import ast

from places import TESTS

from vfio_verify.judge import JUDGES
from vfio_verify.values.spec import clauses


def test_every_clause_has_a_judge_and_every_judge_a_clause() -> None:
    assert set(JUDGES) == set(clauses())


def test_every_test_that_a_clause_names_exists() -> None:
    files = [TESTS / name for name in ("judge/test_judge.py", "worker/test_threads.py")]
    there = {
        node.name for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
    }
    for clause in clauses().values():
        assert clause.tests, clause.id
        assert set(clause.tests) <= there, clause.id


def test_a_clause_says_what_must_hold_why_and_what_is_looked_at() -> None:
    for clause in clauses().values():
        assert clause.id.isupper()
        for text in (clause.rule, clause.source, clause.evidence):
            assert text.rstrip("\"')").endswith("."), (clause.id, text)


def test_the_ids_given_once_are_still_there() -> None:
    """Reports and corpora name them."""
    assert {
        *("CONTIGUOUS", "CONTENTS", "UNMAP_ON_ERROR", "SAME_BLOCK", "ACCEPTS_VALID", "CONFINED", "SIZE_AGREES"),
        *("WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY", "READ_ONLY", "NO_WINDOW", "FAULT_REPORTED", "ERROR_SET"),
        *("NO_LEAK", "REPEATABLE", "SURVIVES"),
    } <= set(clauses())
