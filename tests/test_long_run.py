"""A million cases over all correct subjects and the core raise no alarm: `tox -e long`, which prints their number."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest
from subject_files import CORRECT

from vfio_verify.campaign import Options, check
from vfio_verify.spec import clauses
from vfio_verify.subject import open_subject

CASES = int(os.environ.get("VFIO_VERIFY_LONG_CASES", "1000000"))
"""Runs of a subject on a layout, with a fault plan or without, in all."""
FIRST_SEED = int(os.environ.get("VFIO_VERIFY_LONG_SEED", "1000"))
SUBJECTS = ["core", *(str(file.path) for file in CORRECT)]
LAYOUTS = 400
"""Of one campaign: what is set up once for each does not weigh then, and no seed is the only one."""


def _id(name: str) -> str:
    return os.path.basename(name).removesuffix(".c")


@pytest.mark.long
@pytest.mark.parametrize("name", SUBJECTS, ids=_id)
def test_no_correct_subject_raises_an_alarm_in_a_long_run(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    cases = 0
    share = -(-CASES // len(SUBJECTS))
    with open_subject(name) as subject:
        for seed in itertools.count(FIRST_SEED):
            result = check(subject, Options(examples=LAYOUTS, seed=seed))
            alarms = [v for v in result.confirmed if clauses()[v.clause].fails_a_check]
            told = [f"seed {seed}: {v.clause}: {v.summary}: {v.seen}: {v.case.to_json().decode()}" for v in alarms]
            assert not told, "\n".join(told)
            assert not result.unconfirmed, f"seed {seed}"
            assert not result.cut_short, f"seed {seed}"
            cases += result.runs
            if cases >= share:
                break
    record_property("long_run_cases", cases)
