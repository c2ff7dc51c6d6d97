"""A cause built and taken apart."""

from __future__ import annotations

import pytest

from vfio_verify.values.cause import (
    after_others,
    alternatives,
    any_of,
    concurrent,
    is_ambiguous,
    is_crash,
    is_of_kind,
    lacks_a_place,
    named,
    of_kind,
    take_apart,
)


@pytest.mark.parametrize(
    ("key", "origin", "clause", "kind", "detail"),
    [
        (("NO_LEAK", "cache"), "alone", "NO_LEAK", "cache", ""),
        (("NO_LEAK", of_kind("heap", "no: #")), "alone", "NO_LEAK", "heap", "no: #"),
        (("REPEATABLE", "unlike"), "alone", "REPEATABLE", "unlike", ""),
        (("REPEATABLE", after_others("NO_LEAK", "heap: no")), "after others", "NO_LEAK", "heap", "no"),
        (("REPEATABLE", concurrent("disturbed")), "concurrent", "REPEATABLE", "disturbed", ""),
        (("CONFINED", concurrent("")), "concurrent", "CONFINED", "", ""),
    ],
)
def test_a_cause_says_where_it_comes_from_and_of_what_kind_it_is(key, origin, clause, kind, detail) -> None:
    told = take_apart(key)
    assert (told.origin, told.clause, told.kind, told.detail) == (origin, clause, kind, detail)


def test_what_may_be_one_of_several_stands_for_each() -> None:
    assert alternatives(("CONTENTS", any_of({"b", "a"}))) == [("CONTENTS", "a"), ("CONTENTS", "b")]
    assert alternatives(("ERROR_SET", "none: A or B")) == [("ERROR_SET", "none: A"), ("ERROR_SET", "none: B")]
    later = after_others("ACCEPTS_VALID", of_kind("refused", "a or b"))
    assert alternatives(("REPEATABLE", later)) == [
        ("REPEATABLE", "ACCEPTS_VALID: refused: a"),
        ("REPEATABLE", "ACCEPTS_VALID: refused: b"),
    ]


@pytest.mark.parametrize(
    "key",
    [
        ("CONTENTS", "copy"),
        ("ACCEPTS_VALID", "bad offset or length"),
        ("NO_LEAK", "heap: bad offset or length"),
        ("CONFINED", concurrent("a or b")),
    ],
)
def test_a_message_in_which_or_stands_is_one_cause(key) -> None:
    assert alternatives(key) == [key]
    assert not is_ambiguous(key)


def test_a_cause_is_of_its_kind_and_of_no_other_that_begins_alike() -> None:
    assert is_of_kind("none: valid", "none")
    assert is_of_kind("mmap: there is none", "mmap: there is none")
    assert is_of_kind("twice", "")
    assert not is_of_kind("copy of", "copy")
    assert not is_of_kind("mmap: there is none", "there is none")


def test_a_crash_is_told_by_its_place_or_by_the_step_before_it() -> None:
    assert is_crash("signal 11 @10")
    assert not is_crash("abort: signal 11")
    assert lacks_a_place("signal 11 after munmap")
    assert not lacks_a_place(named("signal 11 @10", {16: "a.c:7"}.get))
    assert named("signal 11 @10 @20", {16: "a.c:7"}.get) == "signal 11 a.c:7 @20"
