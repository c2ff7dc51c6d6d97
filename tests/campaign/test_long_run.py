"""A million cases over all correct subjects and the core raise no alarm: `tox -e long`, which prints their number."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest
from subject_files import CORRECT

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.spec import clauses

CASES = int(os.environ.get("VFIO_VERIFY_LONG_CASES", "1000000"))
"""Runs of a subject on a layout, with a fault plan or without, in all."""
FIRST_SEED = int(os.environ.get("VFIO_VERIFY_LONG_SEED", "1000"))
SUBJECTS = ["core", *(str(file.path) for file in CORRECT)]
LAYOUTS = 400
"""Of one campaign: what is set up once for each does not weigh then, and no seed is the only one."""


def _id(name: str) -> str:
    return os.path.basename(name).removesuffix(".c")


def cases_without_alarm(name: str, wanted: int, layouts: int = LAYOUTS) -> int:
    """So many cases or a few more on a correct subject, each seed another campaign. Fails where one raises an alarm, is
    unconfirmed, or leaves something out."""
    cases = 0
    with open_subject(name) as subject:
        for seed in itertools.count(FIRST_SEED):
            result = check(subject, Options(examples=layouts, seed=seed))
            alarms = [v for v in (*result.confirmed, *result.unconfirmed) if clauses()[v.clause].fails_a_check]
            told = [f"seed {seed}: {v.clause}: {v.summary}: {v.seen}: {v.case.to_json().decode()}" for v in alarms]
            assert not told, "\n".join(told)
            assert not result.unconfirmed, f"seed {seed}"
            assert not result.tally.left_out, f"seed {seed}: {result.tally.left_out}"
            cases += result.tally.runs
            if cases >= wanted:
                return cases
    raise AssertionError("itertools.count() does not end")


@pytest.mark.long
@pytest.mark.parametrize("name", SUBJECTS, ids=_id)
def test_no_correct_subject_raises_an_alarm_in_a_long_run(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("long_run_cases", cases_without_alarm(name, -(-CASES // len(SUBJECTS))))


def test_a_long_run_is_as_long_as_it_is_asked_to_be() -> None:
    assert cases_without_alarm("core", 1, layouts=8) > 8
