"""The report as text: long cases are drawn short, and what is not certain is said to be so."""

from __future__ import annotations

import io
import json

import made_reports
import pytest
from msgspec.structs import replace
from rich.console import Console

from vfio_verify.campaign.check import Result
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.tally import Tally
from vfio_verify.generate import long_lists
from vfio_verify.judge import Violation
from vfio_verify.report.report import Report, make_report
from vfio_verify.report.text import print_report
from vfio_verify.subject.subject import CORE
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.observation import EVENT, FAULTED, NOWHERE, STEPS, Observation

DEVICE = Device(
    (Region(2, 8 * PAGE, (Area(PAGE, 2 * PAGE), Area(4 * PAGE, PAGE)), writable=False),), "areas", region_fds=True
)
LONG = Case(
    devices=(DEVICE,),
    ram_blocks=(RamBlock(0, 2, 0), RamBlock(size=PAGE)),
    iovec=tuple(Segment(0, i % 2 * PAGE, PAGE) for i in range(40)),
    total_size=40 * PAGE,
    fault_plan=(Fault("mmap", 5, "ENOMEM", "late"), Fault("find_block", 2, persistent=True)),
    errp="null",
)


def events(n: int, failing: int) -> bytes:
    step = STEPS.index("find_block")
    return b"".join(
        EVENT.pack(step, FAULTED if i == failing else 0, 0, 0, 0, 0, 0, 0, 0, 22 if i == failing else 0, NOWHERE)
        for i in range(n)
    )


def violation(case: Case = LONG, seen: Observation | None = None) -> Violation:
    seen = seen or Observation(mapped=False, events=events(40, 20), message=b"no room at 0x200000000000")
    return Violation("ACCEPTS_VALID", "", "a sentence", case, seen, "this", "that")


def report(**fields: object) -> Report:
    tally = {"layouts": 7, "runs": 9, "checked": {"ACCEPTS_VALID": 3}}
    tally |= {name: fields.pop(name) for name in fields.keys() & set(Tally.__struct_fields__)}
    return make_report(CORE, Options(seed=4), Result(Tally(**tally), **fields))  # type: ignore[arg-type]


def text_of(what: Report) -> str:
    page = io.StringIO()
    print_report(what, Console(file=page, width=80, highlight=False, markup=False))
    return page.getvalue()


def test_a_case_of_many_segments_shows_the_first_and_the_last() -> None:
    text = text_of(report(confirmed=(violation(),)))
    assert " 9  A+0x9000" in text
    assert "10  A+" not in text
    assert "...  28 more" in text
    assert "39  A+0x27000" in text


def test_everything_that_makes_a_case_odd_is_told() -> None:
    text = " ".join(text_of(report(confirmed=(violation(),))).split())
    assert "region 2, 0x8000 bytes, sparse: [0x1000, 0x3000), [0x4000, 0x5000), read-only" in text
    assert "its driver maps nothing outside the sparse areas; a descriptor for each region" in text
    assert "0x1000 bytes of plain RAM" in text
    assert "errp NULL" in text
    assert "mmap() number 5 fails with ENOMEM, after MAP_FIXED has removed what was there" in text
    assert "qemu_ram_block_from_host() number 2 and all later ones fail " in text  # it has no errno


def test_how_the_subject_was_built_is_told_where_it_is_not_the_usual_way() -> None:
    assert "built with" not in text_of(report(confirmed=(violation(),)))
    text = text_of(report(confirmed=(violation(replace(LONG, variables="zero")),)))
    assert "built with  automatic variables that are zero until they are set" in text


def test_a_machine_that_allows_few_mappings_is_told_where_long_lists_were_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "max_map_count", lambda: 20_000)
    assert not report().notes
    (note,) = report(features={"segments: 4097 to 65536": 1}).notes
    assert note.endswith("vm.max_map_count is 20,000 here.")


def test_a_long_trace_shows_its_ends_and_what_failed() -> None:
    (entry,) = report(confirmed=(violation(),)).violations
    calls = entry.evidence.calls
    assert len(calls) < 15
    assert sum("EINVAL" in call for call in calls) == 1
    assert [call for call in calls if call.startswith("...")] == ["... 15 more", "... 14 more"]


def test_an_address_in_a_message_is_told_by_what_lies_there() -> None:
    seen = Observation(mapped=False, message=b"no room at 0x200000001000", block_hosts=(0x200000000000,))
    (entry,) = report(confirmed=(violation(seen=seen),)).violations
    assert entry.evidence.error == "no room at block 0 + 0x1000"


def test_why_a_clause_was_not_exercised_is_told_for_each() -> None:
    signature = "void *f(struct virtio_gpu_simple_resource *res)"
    without = made_reports.report(subject=replace(made_reports.SUBJECT, signature=signature))
    text = " ".join(text_of(without).split())
    assert "Not exercised: ERROR_SET: the subject has no errp." in text
    assert text.count("Not exercised: ") == 2
    assert "ERROR_SET" not in text[text.index("Not exercised: CONTIGUOUS") :].partition(": no run got that far")[0]
    assert "Not exercised: ERROR_SET" not in text_of(report())


def test_what_did_not_come_again_is_no_violation_but_is_told() -> None:
    unsure = report(unconfirmed=(violation(),))
    assert (unsure.verdict, unsure.exit_status) == ("unconfirmed", 4)
    text = text_of(unsure)
    assert text.startswith("core: unconfirmed: 1 violation seen once, but not again\n")
    assert "Seen once, but not again in a fresh process: ACCEPTS_VALID: a sentence" in text
    assert "vfio-verify check core --case" in text
    (entry,) = (entry for entry in unsure.clauses if entry.id == "ACCEPTS_VALID")
    assert entry.status == "unconfirmed"


def test_a_confirmed_violation_is_the_verdict_whatever_is_unconfirmed() -> None:
    both = report(confirmed=(violation(),), unconfirmed=(violation(),), left_out={"layouts": 3})
    assert (both.verdict, both.exit_status) == ("violates", 1)
    assert not both.is_whole


def test_advice_that_did_not_come_again_changes_no_verdict() -> None:
    advice = report(unconfirmed=(replace(violation(), clause="UNCHARGED"),))
    assert (advice.verdict, advice.exit_status) == ("conforms", 0)
    assert "Seen once, but not again in a fresh process: UNCHARGED" in text_of(advice)


def test_what_was_left_out_is_counted_and_no_conformance() -> None:
    part = report(left_out={"layouts": 84, "calls with a fault": 1007})
    assert (part.verdict, part.exit_status, part.is_whole) == ("unconfirmed", 4, False)
    text = " ".join(text_of(part).split())
    assert text.startswith("core: unconfirmed: part of it was left out")
    assert "Left out, because the subject hangs or ends its process too often: 84 layouts, 1,007 calls" in text


def test_one_of_anything_is_told_in_the_singular() -> None:
    one = report(layouts=1, runs=1, left_out={"calls with a fault": 1, "work of a lost process": 1}, sampled=1)
    text = " ".join(text_of(one).split())
    assert "1 layout, 1 call, seed 4" in text
    assert "1 call with a fault, the work of a lost process." in text
    assert "In 1 run with large segments" in text


def test_where_nothing_was_judged_there_is_no_verdict() -> None:
    nothing = report(layouts=0, runs=0, checked={}, interrupted=True)
    assert (nothing.verdict, nothing.exit_status) == (None, 130)
    assert json.loads(nothing.to_json())["verdict"] is None
    assert text_of(nothing).startswith("core: no verdict: nothing was judged; the check was interrupted\n")
    assert replace(nothing, interrupted=False).exit_status == 4


def test_an_interrupted_check_says_so_and_has_its_own_exit_status() -> None:
    stopped = report(untried=(violation(),), interrupted=True)
    assert (stopped.verdict, stopped.exit_status) == ("unconfirmed", 130)
    assert "seed 4; interrupted" in text_of(stopped)
    assert "Seen once, but not yet run again: ACCEPTS_VALID: a sentence" in text_of(stopped)
    assert report(interrupted=True).verdict == "unconfirmed"
    assert report(confirmed=(violation(),), interrupted=True).verdict == "violates"


def test_layouts_left_out_and_samples_are_noted() -> None:
    text = " ".join(text_of(report(left_out={"layouts": 2}, sampled=2)).split())
    assert "too often: 2 layouts." in text
    assert "In 2 runs with large segments, contents were compared on a sample" in text


def test_clauses_that_no_run_reached_are_named() -> None:
    text = " ".join(text_of(report()).split())
    assert "Not exercised: CONTIGUOUS, CONTENTS," in text
    assert "UNCHARGED: no run got that far." in text
