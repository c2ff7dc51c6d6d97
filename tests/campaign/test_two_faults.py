"""A subject with two faults is told both, and nothing else; one with one fault is told one finding."""

from __future__ import annotations

import pytest
from short_checks import no_kernel_faults
from subject_files import TWO_FAULTS, SubjectFile, built_once, needs_compiler

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options

LAYOUTS_AND_SEED = 25, 1
OTHERS = {
    "area_offset_and_place_after_16": (100, 1),
    "guard_kept_and_array_overrun": (100, 1),
    "limit_and_region_zero": (100, 1),
    "source_cached_and_bound_off": (100, 6),
    "two_crashes": (25, 3),
}
"""For subjects of which those do not show both faults: one hides the other in most layouts, or needs a long list."""


@needs_compiler
@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("file", TWO_FAULTS, ids=[file.path.stem for file in TWO_FAULTS])
def test_two_faults_are_two_findings(file: SubjectFile) -> None:
    examples, seed = OTHERS.get(file.path.stem, LAYOUTS_AND_SEED)
    with built_once(file.path) as subject:
        result = check(subject, Options(examples=examples, seed=seed), why_no_kernel_fault=no_kernel_faults)
    told = sorted(violation.clause for violation in result.confirmed)
    said = "\n".join(f"{v.clause}: {v.cause}: {v.summary}" for v in (*result.confirmed, *result.unconfirmed))
    assert told == sorted(file.violates), said
    assert len({(v.clause, v.cause) for v in result.confirmed}) == len(file.violates)


def test_there_are_enough_of_them() -> None:
    assert len(TWO_FAULTS) >= 12
    assert sum(len(set(file.violates)) < len(file.violates) for file in TWO_FAULTS) >= 4
