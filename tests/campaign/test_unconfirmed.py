"""No check says "conforms" when something was seen, or when it did not look at all that it promises."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import STARTING
from made_reports import report, violation
from places import TESTS
from short_checks import no_kernel_faults
from subject_files import needs_compiler

from vfio_verify.campaign.check import check, check_case
from vfio_verify.campaign.cluster import TaskLostError
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import LostProcessError, Pool
from vfio_verify.campaign.replay import replay
from vfio_verify.campaign.shard import ShardResult
from vfio_verify.corpus.entry import Entry
from vfio_verify.errors import HarnessError
from vfio_verify.judge import Verdict, Violation
from vfio_verify.report.report import make_report
from vfio_verify.search.outcome import with_findings
from vfio_verify.search.state import State, Unconfirmed
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.testing.checks import outcome
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.observation import Observation

SUBJECTS = TESTS / "subjects"
ONE_PAGE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)

# Crashes in the first call of its process, where that was started with such a LANG.
FLAKY = """
#include <stdlib.h>
#include <string.h>
#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static unsigned int calls;
    const char *language = getenv("LANG");
    DmabufSource source;
    void *map;

    if (calls++ == 0 && language && !strcmp(language, "crash")) {
        *(volatile int *)NULL = 1;
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
"""


@needs_compiler
def test_a_crash_that_does_not_come_again_is_unconfirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SURVIVES"""
    shutil.copy(SUBJECTS / "broken" / "helper.h", tmp_path)
    path = tmp_path / "flaky.c"
    path.write_text(FLAKY)
    monkeypatch.setenv("LANG", "crash")

    def other_circumstances(_: Violation) -> None:
        monkeypatch.setenv("LANG", "C")

    with open_subject(str(path)) as subject:
        options = Options(examples=10)
        made = make_report(subject, options, check(subject, options, other_circumstances))
    assert {entry.clause for entry in made.unconfirmed} == {"SURVIVES"}
    assert (made.violations, made.verdict, made.exit_status) == ((), "unconfirmed", 4)


@needs_compiler
def test_a_single_case_must_show_again_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_subject(str(SUBJECTS / "broken" / "everything_refused.c")) as subject:
        sure = check_case(subject, Options(), ONE_PAGE)
        runs: list[Verdict] = []
        run_and_judge = Runner.run_and_judge

        def once(runner: Runner, case: Case) -> tuple[Observation, Verdict]:
            seen, verdict = run_and_judge(runner, case)
            runs.append(verdict)
            return seen, verdict if len(runs) == 1 else Verdict(verdict.checked, ())

        monkeypatch.setattr(Runner, "run_and_judge", once)
        doubtful = check_case(subject, Options(), ONE_PAGE)
    assert [violation.clause for violation in sure.confirmed] == ["ACCEPTS_VALID"]
    assert not sure.unconfirmed
    assert [violation.clause for violation in doubtful.unconfirmed] == ["ACCEPTS_VALID"]
    assert not doubtful.confirmed
    assert len(runs) == 4


@needs_compiler
def test_a_case_seen_once_is_unconfirmed_in_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vfio_verify.campaign.replay import _Batch

    seen: list[object] = []
    shown = _Batch._violations

    def once(self: _Batch, worker: object, entry: Entry) -> tuple[Violation, ...]:
        seen.append(entry)
        return shown(self, worker, entry) if len(seen) == 1 else ()  # type: ignore[arg-type]

    monkeypatch.setattr(_Batch, "_violations", once)
    with open_subject(str(SUBJECTS / "broken" / "everything_refused.c")) as subject:
        (replayed,) = replay(subject, [Entry(ONE_PAGE)])
    assert replayed.status == "unconfirmed"
    assert replayed.reason == "violated ACCEPTS_VALID once, but not again in a fresh process"
    assert not replayed.fails


# ---- cut short ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [LostProcessError, TaskLostError])
def test_a_lost_process_costs_its_work_and_not_the_verdict_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, lost: type[LostProcessError]
) -> None:
    """One of this machine's, or those of a cluster that a task has ended one after the other."""
    whole = Pool.map
    asked: list[object] = []

    def loses(self: Pool, function: object, tasks: object, **here: object) -> object:
        asked.append(function)
        if len(asked) == 1:
            yield from list(whole(self, function, tasks, **here))[:1]  # type: ignore[arg-type, call-overload]
            raise lost("gone")
        yield from whole(self, function, tasks, **here)  # type: ignore[arg-type, call-overload]

    monkeypatch.setattr(Pool, "map", loses)
    result = check(CORE, Options(examples=20))
    assert 0 < result.tally.layouts < 20
    made = make_report(CORE, Options(examples=20), result)
    assert (made.verdict, made.exit_status) == ("unconfirmed", 4)
    assert made.left_out == {"work of a lost process": 1}


def test_a_process_lost_before_anything_was_judged_is_a_fault_of_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(*_: object, **__: object) -> list[ShardResult]:
        raise LostProcessError("gone")

    monkeypatch.setattr(Pool, "map", loses)
    with pytest.raises(HarnessError, match="gone"):
        check(CORE, Options(examples=20))


@needs_compiler
@pytest.mark.parametrize(
    ("subject", "jobs", "seconds", "number"),
    [
        ("core", "1", 0.3, signal.SIGINT),
        ("core", "2", 1, signal.SIGINT),
        ("core", "1", 3, signal.SIGTERM),
        ("correct/check_first.c", "1", 1, signal.SIGINT),
        ("correct/check_first.c", "2", 3, signal.SIGTERM),
        ("correct/check_first.c", "2", 0.3, signal.SIGINT),
    ],
)
def test_an_interrupted_check_never_conforms_in_any_form(
    tmp_path: Path, subject: str, jobs: str, seconds: float, number: signal.Signals
) -> None:
    name = subject if subject == "core" else str(SUBJECTS / subject)
    forms = {form: tmp_path / form for form in ("json", "junit", "sarif")}
    options = [text for form, path in forms.items() for text in (f"--{form}", str(path))]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vfio_verify", "check", name, "--examples", "1000000", "--jobs", jobs, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(STARTING + seconds)
    os.killpg(process.pid, number)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (128 + number, -number), err
    assert "conforms" not in out
    assert "Traceback" not in err
    if not out:  # it had not begun
        return
    written = json.loads(forms["json"].read_text())
    assert written["verdict"] == ("unconfirmed" if written["runs"] else None)
    suite = ElementTree.parse(forms["junit"]).getroot()
    assert int(suite.get("errors", "0")) >= 1
    (run,) = json.loads(forms["sarif"].read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


# ---- what hangs, and what dies -------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.usefixtures("impatient")
def test_sequences_and_calls_at_once_are_run_where_layouts_hang(tmp_path: Path) -> None:
    """A layout of many segments hangs; what is wrong with sequences is found all the same."""
    source = (SUBJECTS / "broken" / "table_dropped_on_failure.c").read_text()
    source = source.replace("    map = reserve(", "    while (iov_cnt >= 3) {\n    }\n    map = reserve(")
    (tmp_path / "helper.h").write_text((SUBJECTS / "broken" / "helper.h").read_text())
    path = tmp_path / "hangs_and_crashes.c"
    path.write_text(source)
    with open_subject(str(path)) as subject:
        result = check(subject, Options(examples=40, seed=1), why_no_kernel_fault=no_kernel_faults)
    assert result.tally.left_out["calls given up"]
    found = {violation.summary.rpartition(": ")[2] for violation in result.confirmed}
    assert found >= {"does not return", "SIGSEGV at NULL"}


# ---- pytest, and a search ------------------------------------------------------------------------------------------


def test_a_clause_that_was_seen_violated_does_not_pass_under_pytest() -> None:
    doubtful = report(unconfirmed=(violation(summary="a whim"),))
    assert outcome(doubtful, "CONTENTS").kind == "failed"
    assert "not again in a fresh process: CONTENTS: a whim" in outcome(doubtful, "CONTENTS").text
    assert outcome(doubtful, "SURVIVES").kind == "passed"
    nothing = report(layouts=0, runs=0, checked={})
    assert {outcome(nothing, entry.id).kind for entry in nothing.clauses} == {"failed"}


def test_a_search_that_saw_something_once_or_lost_a_shard_does_not_conform() -> None:
    def verdict(state: State, *undecided: tuple[str, str], **fields: object) -> str | None:
        return with_findings(report(**fields), state, undecided).verdict

    assert verdict(State()) == "conforms"  # ended by its own budget
    assert verdict(State(unconfirmed=[Unconfirmed("CONTENTS", "x", 2)])) == "unconfirmed"
    assert verdict(State(unconfirmed=[Unconfirmed("UNCHARGED", "x", 2)])) == "conforms"
    assert verdict(State(unconfirmed=[Unconfirmed("CONTENTS", "x", 1)], confirmed=[("CONTENTS", "x")])) == "conforms"
    assert verdict(State(lost=[3])) == "unconfirmed"
    assert verdict(State(), ("CONTENTS", "x")) == "unconfirmed"
    assert verdict(State(), interrupted=True) == "unconfirmed"
    assert verdict(State(), left_out={"layouts": 2}) == "unconfirmed"
    assert verdict(State(), layouts=0, runs=0, checked={}) is None
