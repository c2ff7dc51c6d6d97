"""Kernels that answer otherwise than the newest one: what a case says, the world does, and a wrong helper shows."""

from __future__ import annotations

import pytest
from case_texts import from_json
from msgspec.structs import replace
from subject_files import DIRECTORY, built_once, needs_compiler

from vfio_verify.campaign.check import check_case
from vfio_verify.campaign.options import Options
from vfio_verify.report.case_text import case_rows
from vfio_verify.subject.subject import CORE
from vfio_verify.values.case import PAGE, Case, Device, Fault, Kernel, RamBlock, Region, Segment
from vfio_verify.values.features import features
from vfio_verify.values.observation import STEPS, TOOK_AWAY
from vfio_verify.worker.worker import Worker

PLAIN = Case(
    (Device((Region(1, 8 * PAGE),)),),
    (RamBlock(0, 1, 0),),
    (Segment(0, 0, PAGE), Segment(0, 2 * PAGE, 2 * PAGE)),
    3 * PAGE,
)
RULES = (Kernel(hints=False), Kernel(noreplace=False), Kernel(locks=False), Kernel(mremap_unmaps=True))
PAIRS = (
    ("hint_taken_for_answer", "hint_compared_with_answer", RULES[0], "CONFINED"),
    ("noreplace_not_compared", "noreplace_compared", RULES[1], "CONFINED"),
    ("overlays_locked", "locked_where_allowed", RULES[2], "ACCEPTS_VALID"),
    ("placeholder_looked_for_after_mremap", "mremap_tried_first", RULES[3], "ACCEPTS_VALID"),
)


@needs_compiler
@pytest.mark.parametrize(("broken", "correct", "rule", "clause"), PAIRS)
def test_what_a_kernel_does_is_shown_by_a_wrong_helper_and_borne_by_a_right_one(broken, correct, rule, clause):
    odd = replace(PLAIN, kernel=rule)
    with built_once(DIRECTORY / "broken" / f"{broken}.c") as subject:
        assert not check_case(subject, Options(), PLAIN).confirmed
        assert clause in [v.clause for v in check_case(subject, Options(), odd).confirmed]
    with built_once(DIRECTORY / "correct" / f"{correct}.c") as subject:
        for case in (PLAIN, odd):
            assert not check_case(subject, Options(), case).confirmed


@pytest.mark.parametrize("rule", RULES)
def test_the_core_needs_nothing_of_what_differs(rule):
    assert not check_case(CORE, Options(), replace(PLAIN, kernel=rule)).confirmed


@needs_compiler
def test_a_late_failure_of_mremap_takes_its_target_away():
    with (
        built_once(DIRECTORY / "correct" / "mremap_tried_first.c") as subject,
        Worker(subject.library) as worker,
    ):
        early, late = worker.run(PLAIN, [(Fault("mremap", 1, "ENOMEM", when),) for when in ("early", "late")])
    for seen, taken in ((early, 0), (late, TOOK_AWAY)):
        (first, *_) = [event for event in seen.trace() if STEPS[event.step] == "mremap"]
        assert first.flags & TOOK_AWAY == taken
        assert seen.mapped


def test_a_case_says_it_only_where_it_is_not_as_usual():
    assert b"kernel" not in PLAIN.to_json()
    for rule in RULES:
        odd = replace(PLAIN, kernel=rule)
        assert from_json(odd.to_json()) == odd
        assert [text for name, text in case_rows(odd) if name == "kernel"]
        assert len(features(odd) - features(PLAIN)) == 1
