"""What lies behind the first fault of a subject that refuses every buffer: told of a world with the convention by which
the subject goes on, of no other subject, and apart from what is told of it in QEMU's own world."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from short_checks import no_kernel_faults
from subject_files import ASSUMING, DIRECTORY, AssumingFile, built_once, needs_compiler

from vfio_verify.campaign import check as module
from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import LostProcessError
from vfio_verify.campaign.reduction import reduced
from vfio_verify.campaign.replay import replay
from vfio_verify.campaign.tally import LOST
from vfio_verify.corpus.entry import Entry, found
from vfio_verify.report.report import make_report
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.trial.going_on import found_conventions
from vfio_verify.trial.runner import open_runner
from vfio_verify.values.conventions import conventions

pytestmark = [needs_compiler, pytest.mark.usefixtures("few_rounds")]

INFO = "vfio_device_get_region_info=true"
OPTIONS = Options(examples=60, seed=2)
FILES = {file.path.stem: file for file in ASSUMING}


def checked(subject: Subject, options: Options = OPTIONS, **more) -> Result:
    return check(subject, options, why_no_kernel_fault=no_kernel_faults, **more)


@contextmanager
def opened(name: str) -> Iterator[Subject]:
    with built_once(FILES[name].path) as subject:
        yield subject


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], str]:
    """A subject of one's own, which refuses what `refuses` says, in C, and asks for the region's information, which
    fails where `fails` is true of its answer."""
    shutil.copy(DIRECTORY / "broken" / "helper.h", tmp_path)

    def write(refuses: str, fails: str) -> str:
        file = tmp_path / "mine.c"
        file.write_text(
            '#include "helper.h"\n'
            "bool mine(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)\n{\n"
            "    struct vfio_region_info *info = NULL;\n    DmabufSource source;\n    VFIORegion *region;\n"
            "    void *map;\n    int ret;\n\n"
            "    if (!prepare(iov, n, total_size, &source, errp)) {\n        return false;\n    }\n"
            "    region = vfio_get_region_from_mr(source.block->mr);\n"
            "    ret = region ? vfio_device_get_region_info(region->vbasedev, region->nr, &info) : -1;\n"
            f"    if (!region || ({fails}) || ({refuses})) {{\n"
            '        error_setg(errp, "refused");\n        return false;\n    }\n'
            "    map = reserve(total_size, errp);\n    if (!map) {\n        return false;\n    }\n"
            "    if (!overlay_all(map, iov, n, &source, errp)) {\n"
            "        munmap(map, total_size);\n        return false;\n    }\n"
            "    *addr = map;\n    return true;\n}\n"
        )
        return str(file)

    return write


# ---- found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ASSUMING, ids=list(FILES))
def test_a_subject_that_takes_qemu_wrong_is_told_what_lies_behind(file: AssumingFile) -> None:
    with opened(file.path.stem) as subject:
        result = checked(subject)
        assert "ACCEPTS_VALID" in {violation.clause for violation in result.confirmed}
        assert result.behind is not None
        assert result.behind.subject == replace(subject, assume=file.assume)
        behind = result.behind.result
        assert behind.tally.mapped > 0
        assert sorted(violation.clause for violation in behind.confirmed) == sorted(file.violates)
        assert {violation.case.assume for violation in behind.confirmed} <= {file.assume}
        # It is what a check of that world alone finds.
        alone = checked(result.behind.subject)
        told = make_report(subject, OPTIONS, result)
        assert told.behind == make_report(result.behind.subject, OPTIONS, alone)


def test_each_convention_has_a_subject_that_goes_on_by_it() -> None:
    assert {assumed for file in ASSUMING for assumed in file.assume} == set(conventions())
    assert any(len(file.assume) > 1 for file in ASSUMING)


def test_nothing_of_it_is_in_the_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("info_taken_for_bool") as subject:
        both = make_report(subject, OPTIONS, checked(subject))
        monkeypatch.setattr(module, "found_conventions", lambda _: None)
        first = make_report(subject, OPTIONS, checked(subject))
    assert both.behind
    assert both.behind.verdict == "violates"
    assert first.behind is UNSET
    assert replace(both, behind=UNSET) == first
    assert first.exit_status == both.exit_status == 1


def test_what_is_told_already_is_told_again_only_if_it_is_graver() -> None:
    """Its look-up fails under a fault, and it takes that for success: it maps then."""
    options = replace(OPTIONS, examples=200)
    with opened("info_asked_for_nothing") as subject:
        report = make_report(subject, options, checked(subject, options))
    assert report.behind
    assert {one.clause for one in report.behind.violations} == {"CONFINED", "SIZE_AGREES"}
    assert {one.clause for one in report.violations} >= {"CONFINED", "SIZE_AGREES"}
    assert [(one.clause, one.severity) for one in report.further] == [("CONFINED", "critical")]
    assert [one.severity for one in report.violations if one.clause == "CONFINED"] == ["high"]


def test_it_is_the_same_with_any_number_of_jobs() -> None:
    with opened("info_taken_for_bool") as subject:
        reports = [make_report(subject, OPTIONS, checked(subject, replace(OPTIONS, jobs=jobs))) for jobs in (1, 2)]
    assert reports[0].behind
    assert reports[0].to_json() == reports[1].to_json()


def test_on_candidate_is_told_in_which_world_something_is_seen() -> None:
    seen = []
    with opened("info_taken_for_bool") as subject:
        checked(subject, on_candidate=lambda one: seen.append((one.case.assume, one.clause)))
    assert ((), "ACCEPTS_VALID") in seen
    assert ((INFO,), "CONFINED") in seen
    assert sorted(seen, key=lambda one: one[0]) == seen


# ---- not found -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("refuses", "fails"), [("1", "ret"), ("1", "!ret"), ("n", "ret < 0")])
def test_a_subject_that_refuses_all_for_another_reason_has_no_second_part(written, refuses, fails) -> None:
    with open_subject(written(refuses, fails)) as subject:
        result = checked(subject)
    assert "ACCEPTS_VALID" in {violation.clause for violation in result.confirmed}
    assert not result.tally.mapped
    assert result.behind is None


def test_one_that_refuses_only_what_was_drawn_is_not_said_to_take_qemu_wrong(written) -> None:
    """The one layout of this check has one segment. With an answer of 1 the subject would go on as with 0."""
    with open_subject(written("n == 1", "ret < 0")) as subject:
        result = checked(subject, Options(examples=1))
        assert not result.tally.mapped
        assert result.behind is None
        with open_runner(subject) as runner:
            assert found_conventions(runner) is None


def test_one_that_maps_anything_pays_nothing(monkeypatch: pytest.MonkeyPatch, written) -> None:
    def never(_: object) -> None:
        raise AssertionError("looked for a convention")

    monkeypatch.setattr(module, "found_conventions", never)
    assert checked(CORE).behind is None
    with open_subject(written("n > 1", "ret")) as subject:
        result = checked(subject)
    assert "ACCEPTS_VALID" in {violation.clause for violation in result.confirmed}
    assert result.behind is None


def test_nothing_is_looked_for_behind_what_is_assumed_already() -> None:
    with opened("both_look_ups_reversed") as subject:
        result = checked(replace(subject, assume=(INFO,)))
    assert "ACCEPTS_VALID" in {clause for violation in result.confirmed for clause in violation.clauses}
    assert result.behind is None


def test_a_subject_that_keeps_to_qemu_violates_the_spec_in_a_world_that_does_not(written) -> None:
    with open_subject(written("0", "ret")) as subject:
        assert checked(subject).confirmed == ()
        (violation,) = checked(replace(subject, assume=(INFO,))).confirmed
    assert violation.clause == "ACCEPTS_VALID"


# ---- cut short -----------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_second_part_leaves_the_first_whole() -> None:
    def stop(violation) -> None:
        if violation.case.assume:
            raise KeyboardInterrupt

    with opened("info_taken_for_bool") as subject:
        report = make_report(subject, OPTIONS, checked(subject, on_candidate=stop))
    assert not report.interrupted
    assert (report.verdict, report.examples) == ("violates", OPTIONS.examples)
    assert report.exit_status == 130
    assert report.behind
    assert report.behind.interrupted
    assert report.behind.verdict != "conforms"
    assert {one.clause for one in report.behind.unconfirmed} & {"CONFINED", "SIZE_AGREES"}


def test_processes_lost_in_the_second_part_leave_the_first_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.check_each

    def losing(subjects, *more):
        if subjects[0].assume:
            raise LostProcessError("gone")
        return real(subjects, *more)

    monkeypatch.setattr(module, "check_each", losing)
    with opened("info_taken_for_bool") as subject:
        report = make_report(subject, OPTIONS, checked(subject))
    assert (report.verdict, report.exit_status) == ("violates", 1)
    assert report.behind
    assert report.behind.verdict is None
    assert report.behind.left_out == {LOST: 1}


# ---- kept ----------------------------------------------------------------------------------------------------


@functools.cache
def kept_behind(name: str) -> list[Entry]:
    """What a check keeps of a subject's second part."""
    with opened(name) as subject:
        result = checked(subject)
        assert result.behind is not None
        return [found(subject.name, v.clause, v.cause, v.case, seed=2) for v in result.behind.result.confirmed]


def outcomes(entries: list[Entry], subject: Subject) -> list[tuple[str, str | None]]:
    seen = list(replay(subject, entries))
    for outcome in seen:  # the first fault is never what such a case tells
        assert "ACCEPTS_VALID" not in {one.clause for one in outcome.found}
    return [(outcome.status, outcome.clause) for outcome in seen]


def test_a_kept_case_tells_of_its_own_fault_alone(written) -> None:
    entries = kept_behind("info_taken_for_bool")
    failing = [("still failing", entry.clause) for entry in entries]
    fixed = [("fixed", entry.clause) for entry in entries]
    with opened("info_taken_for_bool") as subject:
        assert outcomes(entries, subject) == failing
    first_fault_fixed = FILES["info_taken_for_bool"].path.read_text().replace("if (!vfio_dev", "if (vfio_dev")
    file = Path(written("0", "ret"))
    file.write_text(first_fault_fixed.replace("../broken/", ""))
    with open_subject(str(file)) as subject:
        assert outcomes(entries, subject) == failing
    for refuses, fails in (("0", "ret"), ("0", "!ret")):  # the second fault is fixed, too, or alone
        with open_subject(written(refuses, fails)) as subject:
            assert outcomes(entries, subject) == fixed
    assert outcomes(entries, CORE) == fixed
    with open_subject(written("1", "ret")) as subject:
        assert outcomes(entries, subject) == [("not applicable", entry.clause) for entry in entries]
        (outcome, *_) = replay(subject, entries)
        assert outcome.reason == f"the subject maps nothing, not even assuming {INFO}"


def test_a_case_is_made_small_in_its_world() -> None:
    entries = kept_behind("info_taken_for_bool")
    (entry,) = (entry for entry in entries if entry.clause == "CONFINED")
    larger = replace(entry, case=replace(entry.case, iovec=entry.case.iovec * 4, errp="null"))
    with opened("info_taken_for_bool") as subject:
        result = reduced(subject, larger)
        assert result.entry is not None
        assert result.entry.case == entry.case
        assert reduced(subject, replace(larger, case=replace(larger.case, assume=()))).entry is None
