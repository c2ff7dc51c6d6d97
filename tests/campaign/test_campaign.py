"""A campaign: the same result for the same seed with any number of jobs; Ctrl-C ends it and tells what was found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import TESTS
from short_checks import no_kernel_faults
from subject_files import built_once, needs_compiler

from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shards import shards
from vfio_verify.errors import InputError
from vfio_verify.judge import judge
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.values.model import expect
from vfio_verify.values.spec import clauses
from vfio_verify.worker.worker import Worker

SUBJECTS = TESTS / "subjects"


def told(result: Result) -> dict[str, object]:
    """What a user is told, without the addresses that a run happened to have."""
    return {
        "layouts": result.tally.layouts,
        "runs": result.tally.runs,
        "checked": result.tally.checked,
        "confirmed": [(v.clause, v.cause, v.summary, v.case) for v in result.confirmed],
        "unconfirmed": [(v.clause, v.cause, v.case) for v in result.unconfirmed],
        "interrupted": result.interrupted,
    }


@pytest.fixture(scope="module")
def broken():
    """Leaves its reservation where an overlay fails, and nothing else wrong."""
    with built_once(SUBJECTS / "broken" / "never_unmapped.c") as subject:
        yield subject


# ---- the same again ----------------------------------------------------------------------------------------


@needs_compiler
def test_the_same_seed_gives_the_same_result_with_one_job_and_with_two(broken):
    one = check(broken, Options(examples=60, seed=7))
    two = check(broken, Options(examples=60, seed=7, jobs=2))
    assert told(one) == told(two)
    assert [violation.clause for violation in one.confirmed] == ["UNMAP_ON_ERROR"]


def test_another_seed_makes_other_layouts():
    options = [Options(examples=60, seed=seed) for seed in (0, 1, 0)]
    results = [check(CORE, one, why_no_kernel_fault=no_kernel_faults) for one in options]
    assert told(results[0]) == told(results[2])
    assert results[0].tally.runs != results[1].tally.runs


# ---- what it finds -----------------------------------------------------------------------------------------


def test_the_core_conforms_and_every_clause_is_exercised():
    result = check(CORE, Options(examples=250))
    assert [(v.clause, v.summary) for v in (*result.confirmed, *result.unconfirmed)] == []
    assert result.tally.layouts == 250
    assert result.tally.runs > 250 * 4
    assert {name for name in clauses() if not result.tally.checked.get(name)} == set()
    assert not result.interrupted


@needs_compiler
def test_a_confirmed_violation_is_one_when_its_case_is_run_again(broken):
    heard = []
    result = check(broken, Options(examples=40), heard.append, no_kernel_faults)
    (found,) = result.confirmed
    assert {violation.clause for violation in heard} == {found.clause}
    with Worker(broken.library) as worker:
        (seen,) = worker.run(found.case)
    assert found.clause in {v.clause for v in judge(found.case, expect(found.case), seen).violations}


@needs_compiler
@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize(("policy", "violated"), [("same-block", True), ("same-region", True), ("same-device", False)])
def test_the_policy_is_the_campaigns(policy, violated):
    """SAME_BLOCK: a helper that takes any block of one device conforms where that is asked for."""
    with built_once(SUBJECTS / "broken" / "devices_compared.c") as subject:
        result = check(subject, Options(examples=100, seed=1, policy=policy), why_no_kernel_fault=no_kernel_faults)
    assert ("SAME_BLOCK" in {v.clause for v in result.confirmed}) == violated


@needs_compiler
@pytest.mark.usefixtures("impatient")
def test_a_subject_that_hangs_is_not_waited_for_again_and_again_and_what_is_left_out_is_counted(tmp_path):
    source = tmp_path / "hangs.c"
    source.write_text(
        '#include "qemu/osdep.h"\n#include "qapi/error.h"\n'
        "bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)\n"
        "{\n    for (;;) {\n    }\n}\n"
    )
    started = time.monotonic()
    with open_subject(str(source)) as subject:
        result = check(subject, Options(examples=10), why_no_kernel_fault=no_kernel_faults)
    assert [v.clause for v in result.confirmed] == ["SURVIVES"]
    assert result.tally.left_out["calls given up"]
    assert time.monotonic() - started < 120


def test_a_library_that_cannot_be_loaded_is_an_input_error_with_any_number_of_jobs(tmp_path):
    library = tmp_path / "subject.so"
    library.write_bytes(b"no library")
    for jobs in (1, 2):
        with pytest.raises(InputError, match="cannot be loaded"):
            check(Subject("x", "C", "f", "s", library=library), Options(examples=60, jobs=jobs))


@pytest.mark.parametrize("examples", [1, 9, 10, 11, 50, 250, 1000, 1001])
def test_shards_add_up_to_the_examples_and_none_is_empty(examples):
    sizes = [part.examples for part in shards(Options(examples=examples))]
    assert sum(sizes) == examples
    assert min(sizes) >= 1


@pytest.mark.parametrize("examples", [1000, 3000, 100_000])
def test_the_first_shards_are_small_and_so_are_the_last_ones(examples):
    sizes = [part.examples for part in shards(Options(examples=examples))]
    middle = sizes.index(max(sizes))
    assert sizes[:middle] == sorted(sizes[:middle])
    assert sizes[middle:] == sorted(sizes[middle:], reverse=True)
    assert max(sizes) == 250  # what starts a worker is spread over many layouts
    assert sizes[0] == 10
    assert sizes[-1] <= 80  # what the slowest process is waited for, at most


# ---- Ctrl-C ------------------------------------------------------------------------------------------------


def leftovers(group: int) -> list[str]:
    """Command lines of the processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def workers_of(library: str) -> int:
    count = 0
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            count += library in maps.read_text()
        except OSError:
            continue
    return count


@needs_compiler
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_check_soon_and_tells_what_was_found_so_far(tmp_path, jobs):
    report = tmp_path / "report.json"
    source = tmp_path / "interrupted subject.c"
    shutil.copy(SUBJECTS / "broken" / "helper.h", tmp_path)
    shutil.copy(SUBJECTS / "broken" / "never_unmapped.c", source)
    command = [sys.executable, "-P", "-m", "vfio_verify", "check", str(source), "--examples", "1000000"]
    process = subprocess.Popen(
        [*command, "--jobs", jobs, "--json", str(report)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert b"Traceback" not in output
    assert process.returncode in (1, 130)
    assert b"UNMAP_ON_ERROR" in first
    written = json.loads(report.read_text())
    assert written["verdict"] == "unconfirmed"
    assert {(one["clause"], one["tried"]) for one in written["unconfirmed"]} == {("UNMAP_ON_ERROR", False)}
    assert written["violations"] == []
    end = time.monotonic() + 3
    while (left := leftovers(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []
    assert workers_of(str(tmp_path)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helper.h", "interrupted subject.c", "report.json"]
