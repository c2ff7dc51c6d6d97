"""The layouts that are made by hand: each breaks one rule, in one place, and every campaign meets it."""

from __future__ import annotations

from collections import Counter

import pytest

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shards import made_by_hand, shards
from vfio_verify.generate.malformed import malformed
from vfio_verify.values import case as cases
from vfio_verify.values.case import PAGE, Case
from vfio_verify.values.model import expect

RULES = ("SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY")


def refused_by(case: Case) -> tuple[str, ...]:
    return tuple(sorted({refusal.clause for refusal in expect(case).refusals}))


def test_each_is_a_case_and_no_two_are_the_same() -> None:
    for case in malformed():
        cases.check(case)
    assert len(set(malformed())) == len(malformed())


def test_each_breaks_one_rule_or_is_one_that_a_helper_may_take_either_way() -> None:
    """A sum that overflows, and a segment that ends past all there is, say two things at once."""
    found = Counter(refused_by(case) for case in malformed())
    assert set(found) - {("SIZE_AGREES", "WITHIN_BLOCK"), ()} == {(rule,) for rule in RULES}
    assert min(found[rule,] for rule in RULES) >= 6
    assert all(expect(case).either for case in malformed() if not refused_by(case))


@pytest.mark.parametrize("examples", [100, 1000])
def test_a_campaign_meets_them_and_draws_at_least_half_of_its_layouts(examples: int) -> None:
    parts = list(shards(Options(examples=examples)))
    met = [case for part in parts for case in made_by_hand(part)]
    assert [case for case in malformed() if case not in met] == list(malformed()[42 if examples == 100 else 52 :])
    assert all(len(made_by_hand(part)) <= part.examples // 2 for part in parts)


def test_the_first_ones_already_break_every_rule() -> None:
    assert {rule for case in malformed()[: len(RULES)] for rule in refused_by(case)} == set(RULES)


def test_a_change_is_in_the_middle_alone_at_the_end_alone_and_in_the_second_half() -> None:
    """What a helper that looks at the first, the last or every other entry does not see."""
    blocks = {tuple(segment.block for segment in case.iovec) for case in malformed()}
    assert {(0, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0)} <= blocks
    odd = {tuple(bool(segment.offset % PAGE) for segment in case.iovec) for case in malformed()}
    assert {(False, True, False, False), (False, False, False, True), (True, True, True, True)} <= odd


def test_what_is_broken_is_also_broken_in_a_list_of_one() -> None:
    alone = {rule for case in malformed() if len(case.iovec) == 1 for rule in refused_by(case)}
    assert alone == set(RULES)
