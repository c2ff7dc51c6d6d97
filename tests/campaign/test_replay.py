"""Replay: each kept case gets the right name, whatever was run before it in the same process, and on any subject."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace as with_fields
from subject_files import DIRECTORY, built_once

from vfio_verify.campaign.reduction import reduced
from vfio_verify.campaign.replay import Outcome, counts, replay
from vfio_verify.corpus.entry import Entry, Origin, found
from vfio_verify.errors import InputError, NotPermittedError
from vfio_verify.report.drawing import shown
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, Policy, RamBlock, Region, Segment
from vfio_verify.worker.sandbox import SandboxFeature

BROKEN, CORRECT = DIRECTORY / "broken", DIRECTORY / "correct"


def case(pages: int = 1, **fields) -> Case:
    """A well-formed case, unless fields say otherwise."""
    plain = Case((Device((Region(0, 8 * PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, pages * PAGE),), pages * PAGE)
    return with_fields(plain, **fields)


OVERLAY_FAILS = (Fault("mmap", 2, "ENOMEM"),)


def entry(kept: Case, clause: str | None = None) -> Entry:
    return Entry(kept, None if clause is None else Origin("x.c", clause))


def outcomes(subject: Subject, *entries: Entry, jobs: int = 1) -> list[Outcome]:
    return list(replay(subject, entries, jobs=jobs))


def statuses(subject: Subject, *entries: Entry) -> list[str]:
    return [outcome.status for outcome in outcomes(subject, *entries)]


@pytest.fixture
def written(tmp_path: Path):
    """A subject of one's own, with the steps of helper.h."""
    shutil.copy(BROKEN / "helper.h", tmp_path)

    def write(before: str) -> str:
        file = tmp_path / "mine.c"
        file.write_text(
            '#include "helper.h"\n'
            "bool mine(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)\n{\n"
            f"    DmabufSource source;\n    void *map;\n    static unsigned int calls;\n\n    calls++;\n    {before}\n"
            "    if (!prepare(iov, n, total_size, &source, errp)) {\n        return false;\n    }\n"
            "    map = reserve(total_size, errp);\n    if (!map) {\n        return false;\n    }\n"
            "    if (!overlay_all(map, iov, n, &source, errp)) {\n"
            "        munmap(map, total_size);\n        return false;\n    }\n"
            "    *addr = map;\n    return true;\n}\n"
        )
        return str(file)

    return write


# ---- names ---------------------------------------------------------------------------------------------------


def test_each_case_gets_its_name():
    failing = case(fault_plan=OVERLAY_FAILS)
    with built_once(BROKEN / "newline_in_message.c") as subject:
        seen = outcomes(
            subject,
            entry(failing, "ERROR_SET"),
            entry(failing, "UNMAP_ON_ERROR"),
            entry(failing),
            entry(case(), "CONTENTS"),
            entry(case()),
            entry(case(), "NO_SUCH_CLAUSE"),
            entry(case(page_size=2 * PAGE), "CONTENTS"),
        )
    assert [outcome.status for outcome in seen] == [
        *("still failing", "newly failing", "newly failing", "fixed", "passes"),
        *("not applicable", "not applicable"),
    ]
    assert [outcome.fails for outcome in seen] == [True, True, True, False, False, False, False]
    assert [found.clause for found in seen[1].found] == ["ERROR_SET"]
    assert "ends in a newline" in seen[0].found[0].summary
    assert "NO_SUCH_CLAUSE" in seen[5].reason
    assert str(2 * PAGE) in seen[6].reason
    assert counts(seen) == {
        "still failing": 1,
        "newly failing": 2,
        "unconfirmed": 0,
        "fixed": 1,
        "passes": 1,
        "not applicable": 2,
    }


def test_what_a_subject_cannot_be_asked_is_not_applicable():
    """The total size, which one with an iovec and an errp alone is not told; an error, where there is no errp."""
    wrong_total = case(total_size=2 * PAGE)
    with built_once(CORRECT / "array_of_offsets.c") as subject:
        seen = outcomes(
            subject,
            entry(wrong_total, "SIZE_AGREES"),
            entry(case(earlier=(wrong_total,)), "REPEATABLE"),
            entry(case(errp="null"), "SURVIVES"),
        )
    assert [outcome.status for outcome in seen] == ["not applicable", "not applicable", "fixed"]
    assert "total size" in seen[0].reason
    with built_once(CORRECT / "resource_alone.c") as subject:
        seen = outcomes(
            subject,
            entry(case(errp="null"), "SURVIVES"),
            entry(case(fault_plan=OVERLAY_FAILS), "ERROR_SET"),
            entry(case(fault_plan=OVERLAY_FAILS), "UNMAP_ON_ERROR"),
        )
    assert [outcome.status for outcome in seen] == ["not applicable", "not applicable", "fixed"]
    assert "error" in seen[1].reason
    assert statuses(CORE, entry(wrong_total, "SIZE_AGREES"), entry(case(errp="null"), "SURVIVES")) == ["fixed"] * 2


def test_advice_is_shown_and_is_no_failure():
    huge = Case((Device((Region(0, 1 << 40),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, 1 << 40),) * 4, 4 << 40)
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1":
        pytest.skip("this kernel refuses no mapping for want of memory")
    with built_once(BROKEN / "charged_placeholder.c") as subject:
        seen = outcomes(subject, entry(huge, "UNCHARGED"), entry(huge, "CONTENTS"))
    assert [(outcome.status, outcome.fails) for outcome in seen] == [("still failing", False), ("fixed", False)]


def test_a_kernel_fault_that_this_machine_does_not_permit_is_not_applicable(monkeypatch):
    real = Runner.run_and_judge

    def refusing(runner, one):
        if one.fault_plan:
            raise NotPermittedError("the kernel fault cannot be set up: Operation not permitted")
        return real(runner, one)

    monkeypatch.setattr(Runner, "run_and_judge", refusing)
    seen = outcomes(CORE, entry(case()), entry(case(fault_plan=OVERLAY_FAILS), "SURVIVES"), entry(case(2)))
    assert [outcome.status for outcome in seen] == ["passes", "not applicable", "passes"]
    assert "not permitted" in seen[1].reason


# ---- one process for many cases ----------------------------------------------------------------------------------


def test_a_fault_of_a_first_call_only_is_found_behind_other_cases(written):
    """In the process of those before it the case would pass, and be called fixed."""
    first_fails = written('if (calls == 1) { error_setg(errp, "not yet"); return false; }')
    refused = case(iovec=(), total_size=0)
    with open_subject(first_fails) as subject:
        seen = statuses(subject, entry(refused), *(entry(case(n), "ACCEPTS_VALID") for n in (1, 2, 3)))
    assert seen == ["passes", *["still failing"] * 3]


@pytest.mark.parametrize("calls", [8, 9])
def test_a_fault_that_needs_other_cases_is_one_of_repeatable(written, calls):
    """A run calls the subject twice, so the one after so many calls fails in its first or in its second."""
    tired = written(f'if (calls > {calls}) {{ error_setg(errp, "no more"); return false; }}')
    with open_subject(tired) as subject:
        seen = outcomes(subject, *(entry(case(n)) for n in range(1, 9)))
    failing = [outcome for outcome in seen if outcome.fails]
    assert failing
    assert {outcome.status for outcome in failing} == {"newly failing"}
    assert {found.clause for outcome in failing for found in outcome.found} == {"REPEATABLE"}
    assert all(outcome.found[0].summary.startswith("after ") for outcome in failing)
    assert not any(outcome.reason for outcome in failing)  # it is told as what it is, and not as seen once
    assert {outcome.status for outcome in seen if not outcome.fails} == {"passes"}


def test_a_subject_that_dies_does_not_take_other_cases_with_it():
    info_fails = case(fault_plan=(Fault("region_info", 1, "EINVAL"),))
    with built_once(BROKEN / "missing_info_dereferenced.c") as subject:
        seen = statuses(subject, entry(case()), entry(info_fails, "SURVIVES"), entry(info_fails), entry(case(2)))
    assert seen == ["passes", "still failing", "newly failing", "passes"]


def test_what_needs_earlier_calls_is_repeatable_and_what_does_not_is_none():
    failed = case(fault_plan=OVERLAY_FAILS)
    after_failure = case(earlier=(failed,))
    with built_once(BROKEN / "gives_up_after_failure.c") as subject:
        assert statuses(subject, entry(after_failure, "REPEATABLE"), entry(case(), "ACCEPTS_VALID")) == [
            "still failing",
            "fixed",
        ]
    with built_once(BROKEN / "everything_refused.c") as subject:
        (seen,) = outcomes(subject, entry(after_failure, "REPEATABLE"))
    assert (seen.status, [found.clause for found in seen.found]) == ("newly failing", ["ACCEPTS_VALID"])


def test_outcomes_are_in_order_and_the_same_with_any_number_of_jobs():
    entries = [
        entry(case(1 + n % 7, fault_plan=OVERLAY_FAILS if n % 3 == 0 else ()), "ERROR_SET" if n % 2 else None)
        for n in range(130)
    ]
    with built_once(BROKEN / "newline_in_message.c") as subject:
        one, two = outcomes(subject, *entries), outcomes(subject, *entries, jobs=2)
    assert one == two
    expected = [
        {(0, 1): "still failing", (0, 0): "newly failing"}.get((n % 3, n % 2), "fixed" if n % 2 else "passes")
        for n in range(130)
    ]
    assert [outcome.status for outcome in one] == expected


def test_no_entries_give_no_outcomes():
    assert outcomes(CORE) == []


# ---- a foreign case made smaller -----------------------------------------------------------------------------------


def test_a_foreign_case_is_made_smaller_and_keeps_its_clause():
    wide = Case(
        (Device((Region(3, 64 * PAGE), Region(4, PAGE))), Device((Region(0, PAGE),))),
        (RamBlock(0, 3, 0), RamBlock(0, 4, 0), RamBlock(size=PAGE)),
        tuple(Segment(0, 3 * n * PAGE, 2 * PAGE) for n in range(8)),
        16 * PAGE,
        (Fault("mmap", 6, "ENOMEM"), Fault("close", 3, "EIO")),
    )
    with built_once(BROKEN / "newline_in_message.c") as subject:
        result = reduced(subject, Entry(wide, Origin("elsewhere.c", "ERROR_SET", seed=4), "from a mail"))
        assert result.entry is not None
        assert result.smaller
        smallest = result.entry.case
        assert len(smallest.iovec) == len(smallest.fault_plan) == len(smallest.devices) == 1
        assert result.entry.origin is not None
        assert (result.entry.clause, result.entry.note, result.entry.origin.seed) == ("ERROR_SET", "from a mail", 4)
        assert result.entry.origin.subject.endswith("newline_in_message.c")
        again = reduced(subject, result.entry)
        assert again.entry is not None
        assert (again.entry.case, again.smaller) == (smallest, False)
        none = reduced(subject, result.entry, "CONTENTS")
    assert (none.entry, none.clause, none.instead) == (None, "CONTENTS", ("ERROR_SET",))


def test_a_foreign_case_of_repeatable_keeps_an_earlier_call():
    wide = case(4, earlier=(case(2), case(3, fault_plan=OVERLAY_FAILS), case(1)))
    with built_once(BROKEN / "gives_up_after_failure.c") as subject:
        result = reduced(subject, entry(wide, "REPEATABLE"))
        assert result.entry is not None
        assert result.entry.clause == "REPEATABLE"
        (before,) = result.entry.case.earlier
        assert before.fault_plan
        assert statuses(subject, result.entry) == ["still failing"]


def test_a_case_that_cannot_be_asked_is_not_shrunk():
    with (
        built_once(CORRECT / "array_of_offsets.c") as subject,
        pytest.raises(InputError, match="is not told it"),
    ):
        reduced(subject, entry(case(total_size=2 * PAGE), "SIZE_AGREES"))


def test_what_only_some_processes_show_after_earlier_calls_is_not_called_fixed(written, tmp_path):
    """As a bug that depends on where the kernel puts a mapping. Here every fourth process has it."""
    count = tmp_path / "count"
    count.write_bytes(b"")
    (tmp_path / "started.h").write_text(
        "#include <fcntl.h>\n#include <sys/stat.h>\n#include <unistd.h>\n"
        "static int started(void)\n{\n    static int number;\n    struct stat status;\n    int fd;\n\n"
        f'    if (!number) {{\n        fd = open("{count}", O_WRONLY | O_APPEND);\n'
        '        if (fd < 0 || write(fd, "x", 1) != 1 || fstat(fd, &status) < 0) {\n            _exit(1);\n        }\n'
        "        number = (int)status.st_size;\n        close(fd);\n    }\n    return number;\n}\n"
    )
    text = 'if (calls > 1 && started() % 4 == 0) {\n        error_setg(errp, "no");\n        return false;\n    }'
    source = Path(written(text))
    source.write_text(
        '#include "started.h"\n' + source.read_text().replace("    calls++;", "    calls++;\n    started();")
    )
    again = case(earlier=(case(),))
    with open_subject(str(source), None, SandboxFeature.NONE) as subject:
        (outcome,) = replay(subject, [entry(again, "REPEATABLE")], parts=SandboxFeature.NONE)
    assert outcome.status == "still failing"
    assert count.stat().st_size >= 4


def test_a_case_is_judged_by_the_policy_that_it_was_found_by():
    """ACCEPTS_VALID"""
    two_areas = (Region(0, 8 * PAGE, (Area(0, 2 * PAGE), Area(4 * PAGE, 2 * PAGE))),)
    shared = case(
        devices=(Device(two_areas, mmap_rule="areas"),),
        ram_blocks=(RamBlock(0, 0, 0), RamBlock(0, 0, 1)),
        iovec=(Segment(0, 0, PAGE), Segment(1, 0, PAGE)),
        total_size=2 * PAGE,
    )
    kept = found("x.c", "ACCEPTS_VALID", "", shared, seed=0, policy="same-region")
    assert kept.name != found("x.c", "ACCEPTS_VALID", "", shared, seed=0).name
    with built_once(CORRECT / "check_first.c") as subject:
        assert statuses(subject, kept) == ["still failing"]
        assert [outcome.status for outcome in replay(subject, [kept], policy="same-block")] == ["fixed"]
        again = reduced(subject, kept).entry
    assert again is not None
    assert (again.clause, again.policy) == ("ACCEPTS_VALID", "same-region")
    assert b'"policy": "same-region"' in again.to_json()

    def drawn(policy: Policy | None) -> str:
        return next(line for line in shown(kept, policy) if "expected" in line)

    assert drawn(None) == drawn("same-region") != drawn("same-block")
