"""Automatic variables that nothing has set: a subject is built with a pattern in them, and with zero."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from case_texts import from_json
from msgspec.structs import replace
from short_checks import no_kernel_faults
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.campaign.check import check, check_case
from vfio_verify.campaign.options import Options
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.worker.worker import Worker

pytestmark = needs_compiler

CASE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)
ZEROED = replace(CASE, variables="zero")
STATUS = DIRECTORY / "broken" / "status_never_set.c"
COUNTING = """
#include "qemu/osdep.h"
#include "qapi/error.h"

unsigned int calls;

unsigned int one_more(void) { return ++calls; }

bool subject(struct iovec *iov, unsigned int iov_cnt, void **addr, size_t total_size, Error **errp)
{
    unsigned int unset;

    error_setg(errp, "call %u with %s", one_more(), unset ? "a pattern" : "zero");
    return false;
}
"""


def test_each_case_meets_the_build_that_it_names_and_neither_knows_the_other(tmp_path: Path) -> None:
    file = tmp_path / "counting.c"
    file.write_text(COUNTING)
    with open_subject(str(file), "subject") as subject, Worker(subject.library) as worker:
        said = [worker.run(case)[0].message for case in (CASE, CASE, ZEROED, CASE)]
        assert said == [b"call 1 with a pattern", b"call 2 with a pattern", b"call 1 with zero", said[0]]
        (seen,) = worker.run(replace(ZEROED, earlier=(ZEROED, ZEROED)))
        assert seen.message == b"call 3 with zero"


def test_a_finding_that_needs_zero_says_so_and_comes_again_by_its_case() -> None:
    failed = CASE.with_faults(Fault("mmap", 1, "ENOMEM"))
    with open_subject(str(STATUS)) as subject:
        found = [
            v.case
            for v in check(subject, Options(examples=100, seed=1), why_no_kernel_fault=no_kernel_faults).confirmed
        ]
        assert found
        assert {case.variables for case in found} == {"zero"}
        assert not check_case(subject, Options(), failed).confirmed
        assert check_case(subject, Options(), replace(failed, variables="zero")).confirmed


@pytest.mark.parametrize("name", ["never_unmapped", "unset_address_unmapped", "error_set_twice"])
def test_what_the_usual_build_shows_too_is_told_of_that_one_and_once(name: str) -> None:
    with open_subject(str(DIRECTORY / "broken" / f"{name}.c")) as subject:
        result = check(subject, Options(examples=50), why_no_kernel_fault=no_kernel_faults)
    assert result.tally.features["variables: zero until they are set"]
    assert {v.case.variables for v in result.confirmed} == {"pattern"}
    assert len({(v.clause, v.where) for v in result.confirmed}) == len(result.confirmed)


def test_a_line_is_the_same_in_both_builds() -> None:
    failed = CASE.with_faults(Fault("mmap", 1, "ENOMEM"))
    with open_subject(str(STATUS)) as subject, Worker(subject.library) as worker:
        lines = []
        for case in (failed, replace(failed, variables="zero")):
            (seen,) = worker.run(case)
            lines.append([subject.line_at(event.caller) for event in seen.trace()])
    assert lines[0] == lines[1]
    assert all(lines[0])


def test_without_a_second_build_a_case_is_run_as_the_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *more: None if name == "objcopy" else which(name, *more))
    with open_subject(str(STATUS)) as subject:
        assert not subject.is_built_twice
        assert subject.adapt(replace(ZEROED, earlier=(ZEROED,))) == replace(CASE, earlier=(CASE,))
        result = check(subject, Options(examples=40), why_no_kernel_fault=no_kernel_faults)
        assert "variables: zero until they are set" not in result.tally.features
    assert CORE.adapt(ZEROED) == CASE


def test_an_ordinary_case_does_not_say_how_its_subject_is_built() -> None:
    written = CASE.to_json()
    assert b"variables" not in written
    assert from_json(written[:-1] + b',"variables":"pattern"}').to_json() == written
    assert from_json(ZEROED.to_json()) == ZEROED
