"""Failures that the kernel itself makes: what it says is what each kind promises, and nothing of it stays behind."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from case_texts import from_json
from msgspec.structs import replace
from one_worker import lowest_free_fd, open_fds
from places import TESTS
from rich.console import Console
from subject_files import built_once, needs_compiler

from vfio_verify.campaign.check import check, check_case
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.generate import kernel_faults
from vfio_verify.generate.kernel_faults import kernel_cases, long_case
from vfio_verify.judge import Verdict, judge
from vfio_verify.report.report import make_report
from vfio_verify.report.text import print_report
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.confirm import confirm_and_minimize
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import (
    HUGE_PAGE,
    KERNEL_FAULT_KINDS,
    PAGE,
    Area,
    Case,
    Device,
    End,
    Fault,
    KernelFault,
    RamBlock,
    Region,
    Segment,
)
from vfio_verify.values.case import check as check_that_it_is_a_case
from vfio_verify.values.model import expect
from vfio_verify.values.observation import BY_KERNEL, STARVED, STEPS, STILL_READABLE, TOOK_AWAY, UNPLANNED, Observation
from vfio_verify.worker.worker import Worker

SUBJECTS = TESTS / "subjects"
HAVE_COMPILER = shutil.which("cc") is not None

TWO_DEVICES = (
    Device((Region(1, 20 * PAGE, (Area(2 * PAGE, 16 * PAGE),)),)),
    Device((Region(3, 8 * PAGE, None, writable=False),)),
)
FIVE = Case(
    TWO_DEVICES,
    (RamBlock(0, 1, 0), RamBlock(1, 3, 0)),
    tuple(Segment(0, first * PAGE, count * PAGE) for first, count in ((4, 2), (0, 1), (8, 3), (0, 1), (12, 1))),
    8 * PAGE,
)
OVERLAYS = (2, 4, 6)
"""The first, the middle and the last of five, by the number of the mmap."""

PROMISED = {
    "address_space": ("ENOMEM", (1, *OVERLAYS)),
    "map_count": ("ENOMEM", (0, 1, *OVERLAYS)),
    "closed_descriptor": ("EBADF", (0, *OVERLAYS)),
    "write_only_descriptor": ("EACCES", (0, *OVERLAYS)),
    "seccomp": ("EPERM", (0, *OVERLAYS)),
}
"""What the kernel says, and where it is set up."""

IN_C = ("correct/alignment_left_to_mmap", "correct/unmapped_in_two_parts")
subjects = pytest.mark.parametrize(
    "runner", ["core", *(pytest.param(name, marks=needs_compiler) for name in IN_C)], indirect=True
)


def permitted(kind: str) -> None:
    if (reason := kernel_faults.why_not(kind)) is not None:
        pytest.skip(f"{kind}: {reason}")


class KernelRunner(Runner):
    """A subject and a worker of it that lives as long as the module's tests."""

    def run(self, case: Case, kind: str | None = None, at: int = 0) -> tuple[Observation, Verdict]:
        if kind is not None:
            permitted(kind)
            case = replace(case, kernel_fault=KernelFault(kind, at))
        case = self.subject.adapt(case)
        check_that_it_is_a_case(case)
        (seen,) = self.worker.run(case)
        return seen, judge(case, expect(case), seen, has_errp=self.subject.has_errp)


@contextmanager
def runner_of(name: str):
    path = "core" if name == "core" else str(SUBJECTS / f"{name}.c")
    with open_subject(path) as subject, Worker(subject.library) as worker:
        yield KernelRunner(worker, subject, "same-block")


@contextmanager
def runner_of_text(directory: Path, text: str):
    path = directory / "subject.c"
    path.write_text(
        '#include "qemu/osdep.h"\n#include "qapi/error.h"\n#include <fcntl.h>\n#include <sys/mman.h>\n' + text
    )
    with open_subject(str(path)) as subject, Worker(subject.library) as worker:
        yield KernelRunner(worker, subject, "same-block")


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest):
    with runner_of(request.param) as one:
        yield one


@pytest.fixture(scope="module")
def core():
    with runner_of("core") as one:
        yield one


def failures(seen: Observation) -> list[tuple[str, int, int]]:
    """Which steps failed: name, number among its kind, errno."""
    found, counts = [], dict.fromkeys(STEPS, 0)
    for event in seen.trace():
        step = STEPS[event.step]
        counts[step] += 1
        if event.errno:
            found.append((step, counts[step], event.errno))
    return found


def stays_as_it_was(seen: Observation) -> bool:
    pages = (seen.pages_after, seen.pages_end) == (seen.pages_before, seen.pages_before)
    return pages and (seen.fds_left, seen.fds_gone, seen.harness_changes, seen.strays) == (0, 0, 0, ())


# ---- what each kind promises ----------------------------------------------------------


@subjects
@pytest.mark.parametrize(("kind", "at"), [(kind, at) for kind, (_, places) in PROMISED.items() for at in places])
def test_the_kernel_fails_the_mapping_that_it_is_to_fail_and_everything_is_unmapped(runner, kind, at):
    seen, verdict = runner.run(FIVE, kind, at)
    error = getattr(errno, PROMISED[kind][0])
    # Before the call the reservation fails, for want of room, or the first overlay.
    first = at or (1 if kind == "map_count" else 2)
    assert failures(seen)[0] == ("mmap", first, error)
    event = next(event for event in seen.trace() if event.errno)
    starved = STARVED if error == errno.ENOMEM else 0
    assert event.flags & (BY_KERNEL | UNPLANNED | STARVED | TOOK_AWAY) == BY_KERNEL | UNPLANNED | starved
    assert not seen.mapped
    assert seen.error_left
    assert stays_as_it_was(seen)
    assert not verdict.violations
    assert {"FAULT_REPORTED", "SURVIVES"} <= verdict.checked
    assert "ACCEPTS_VALID" not in verdict.checked
    assert first == 1 or "UNMAP_ON_ERROR" in verdict.checked


@subjects
@pytest.mark.parametrize(("kind", "at"), [("read_only_descriptor", 0), ("read_only_descriptor", 4), ("sealed", 0)])
def test_what_is_enough_for_reading_is_mapped(runner, kind, at):
    """ACCEPTS_VALID"""
    seen, verdict = runner.run(FIVE, kind, at)
    assert seen.mapped
    assert failures(seen) == []
    assert seen.pages_compared == 8
    assert not verdict.violations
    assert {"ACCEPTS_VALID", "CONTENTS", "CONTIGUOUS", "READ_ONLY"} <= verdict.checked


@subjects
@pytest.mark.parametrize("at", [0, 1, *OVERLAYS])
def test_a_backing_cut_off_at_any_time_is_unreadable_in_the_mapping_as_in_the_guest(runner, at):
    seen, verdict = runner.run(FIVE, "truncated", at)
    assert seen.mapped
    assert (seen.pages_compared, seen.differences) == (8, ())
    assert not verdict.violations
    assert ("ACCEPTS_VALID" in verdict.checked) == (at == 0)  # who asks for the size first may refuse


@needs_compiler
def test_a_copy_can_still_be_read_when_the_devices_memory_is_gone():
    """CONTENTS"""
    with runner_of("broken/small_dmabuf_copied") as copying:
        seen, verdict = copying.run(FIVE, "truncated")
    assert {difference.kind for difference in seen.differences} == {STILL_READABLE}
    assert len(seen.differences) == 8
    assert "CONTENTS" in {violation.clause for violation in verdict.violations}


@needs_compiler
def test_a_duplicate_made_in_time_is_another_descriptor():
    with runner_of("correct/own_descriptor") as duplicating:
        seen, verdict = duplicating.run(FIVE, "closed_descriptor", 0)
        assert failures(seen)[0] == ("dup", 1, errno.EBADF)
        assert not seen.mapped
        assert not verdict.violations
        seen, verdict = duplicating.run(FIVE, "closed_descriptor", 3)
        assert seen.mapped
        assert failures(seen) == []
        assert not verdict.violations


@needs_compiler
def test_a_filter_reaches_a_call_in_assembly_that_is_not_seen():
    permitted("seccomp")
    with runner_of("correct/assembly") as careful, runner_of("broken/assembly_answer_dropped") as careless:
        seen, verdict = careful.run(FIVE, "seccomp", 4)
        assert failures(seen) == []
        assert not seen.mapped
        assert stays_as_it_was(seen)
        assert not verdict.violations
        seen, verdict = careless.run(FIVE, "seccomp", 4)
        assert seen.mapped
        assert [run.memory < 100 for run in seen.runs] == [True, True, False, True, True]
        assert "CONTIGUOUS" in {violation.clause for violation in verdict.violations}


def test_a_filter_fails_the_chosen_overlay_and_those_of_the_same_place(core):
    """It matches the file offset: segments 1 and 3 have the same."""
    seen, _ = core.run(FIVE, "seccomp", 5)
    assert failures(seen) == [("mmap", 3, errno.EPERM)]


@needs_compiler
def test_a_descriptor_that_got_a_closed_ones_number_is_a_leak_and_the_device_gets_its_number_back(tmp_path):
    text = """
bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    int first = open("/dev/null", O_RDONLY), last = first;

    for (int i = 0; i < 40; i++) {
        last = open("/dev/null", O_RDONLY);
    }
    error_setg(errp, "%d %d", first, last);
    return false;
}
"""
    with runner_of_text(tmp_path, text) as leaking:
        first_free = lowest_free_fd(leaking.worker)
        seen, verdict = leaking.run(FIVE, "closed_descriptor")
        first, last = map(int, seen.message.split())
        assert first < min(seen.device_fds) < last
        assert {v.clause for v in verdict.violations} == {"NO_LEAK"}
        again, _ = leaking.run(FIVE)
        first_again, last_again = map(int, again.message.split())
        assert first_again == first_free
        assert last_again > last  # fewer numbers were free


# ---- nothing stays behind ----------------------------------------------------------


@subjects
def test_after_each_kind_the_next_case_is_run_and_judged_as_ever(runner):
    before, _ = runner.run(FIVE)
    fds = open_fds(runner.worker)
    for kind in KERNEL_FAULT_KINDS:
        if kernel_faults.why_not(kind) is not None or kind == "hugetlb":
            continue
        restarts = runner.worker.restarts
        runner.run(FIVE, kind, 2)
        assert runner.worker.restarts - restarts == (kind in ("sealed", "seccomp"))
        for case in (FIVE, FIVE.with_faults(Fault("mmap", 3, "ENODEV", "late"))):
            seen, verdict = runner.run(case)
            assert seen.mapped == (not case.fault_plan)
            assert seen.second is None or seen.second.like_first
            assert (seen.pages_before, open_fds(runner.worker)) == (before.pages_before, fds)
            assert not verdict.violations
            assert stays_as_it_was(replace(seen, pages_after=seen.pages_end))
            assert case.fault_plan or seen.pages_compared == 8


@needs_compiler
def test_limits_and_mappings_of_the_process_are_as_before(tmp_path):
    """By what the next call itself sees of them."""
    text = """
#include <stdio.h>
#include <sys/resource.h>
bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    struct rlimit limit;
    long maps = 0;
    int c, fd = open("/proc/self/maps", O_RDONLY);
    char text[4096];
    void *map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (map != MAP_FAILED) {
        munmap(map, total_size);
    }
    getrlimit(RLIMIT_AS, &limit);
    while (fd >= 0 && (c = read(fd, text, sizeof(text))) > 0) {
        for (int i = 0; i < c; i++) {
            maps += text[i] == '\\n';
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    error_setg(errp, "%lu %ld", (unsigned long)limit.rlim_cur, maps);
    return false;
}
"""
    with runner_of_text(tmp_path, text) as asking:
        before, _ = asking.run(FIVE)
        limit, maps = before.message.split()
        lowered, _ = asking.run(FIVE, "address_space", 1)
        assert int(lowered.message.split()[0]) == lowered.pages_before * PAGE
        assert asking.run(FIVE)[0].message == before.message
        full, _ = asking.run(FIVE, "map_count", 1)
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        assert abs(int(full.message.split()[1]) - most) < 8
        assert asking.run(FIVE)[0].message == before.message
        assert int(maps) < 1000
        assert int(limit) > 1 << 60


def test_the_map_count_is_filled_again_and_again(core):
    for at in (6, 2, 6, 1, 4):
        seen, verdict = core.run(FIVE, "map_count", at)
        assert failures(seen)[0] == ("mmap", at, errno.ENOMEM)
        assert not verdict.violations


def test_long_layouts_meet_each_kind_in_the_middle(core):
    long = long_case()
    for kind in ("address_space", "map_count", "closed_descriptor", "seccomp"):
        seen, verdict = core.run(long, kind, 151)
        assert failures(seen)[0][:2] == ("mmap", 151)
        assert stays_as_it_was(seen)
        assert not verdict.violations


def test_where_mappings_are_read_as_text_every_kind_works_too():
    with Worker(parse_maps=True) as worker:
        (faultless,) = worker.run(FIVE)
        for kind in kernel_faults.permitted(kernel_faults.reasons_against()):
            for case in kernel_cases(FIVE, faultless, kind):
                (seen,) = worker.run(case)
                assert not judge(case, expect(case), seen).violations


# ---- huge pages ----------------------------------------------------------

NR_HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


@pytest.fixture
def some_huge_pages(alone_with_huge_pages):
    try:
        before = NR_HUGEPAGES.read_text()
        NR_HUGEPAGES.write_text(str(int(before) + 16))
    except OSError as error:
        pytest.skip(f"huge pages cannot be made: {error}")
    try:
        if int(NR_HUGEPAGES.read_text()) < int(before) + 16:
            pytest.skip("there is no room for huge pages")
        yield
    finally:
        NR_HUGEPAGES.write_text(before)


def huge(case: Case) -> Case:
    """The same layout in huge pages, as the campaign makes it."""
    faultless = Observation(mapped=True, counts=(6, *[0] * (len(STEPS) - 1)))
    (found,) = kernel_cases(case, faultless, "hugetlb")
    return found


@needs_compiler
def test_without_huge_pages_an_aligned_overlay_fails_late_and_is_cleaned_up(alone_with_huge_pages):
    permitted("hugetlb")
    if kernel_faults.shortfall("hugetlb") is None:
        pytest.skip("there are free huge pages")
    with runner_of("correct/aligned_to_2_mib") as aligned:
        seen, verdict = aligned.run(huge(FIVE))
    event = next(event for event in seen.trace() if event.errno)
    assert event.errno == errno.ENOMEM
    assert event.flags & (BY_KERNEL | TOOK_AWAY) == BY_KERNEL | TOOK_AWAY
    assert not seen.mapped
    assert stays_as_it_was(seen)
    assert not verdict.violations


@needs_compiler
def test_with_huge_pages_an_aligned_placeholder_is_mapped(some_huge_pages):
    permitted("hugetlb")
    with runner_of("correct/aligned_to_2_mib") as aligned:
        seen, verdict = aligned.run(huge(FIVE))
    assert seen.mapped
    assert failures(seen) == []
    assert [(run.end - run.start) // HUGE_PAGE for run in seen.runs] == [2, 1, 3, 1, 1]
    assert [run.offset & ((1 << 40) - 1) for run in seen.runs] == [n * HUGE_PAGE for n in (6, 2, 10, 2, 14)]
    assert not verdict.violations
    assert {"CONTENTS", "CONTIGUOUS"} <= verdict.checked


@subjects
def test_a_placeholder_that_fits_no_huge_page_may_be_refused_and_is_cleaned_up(runner):
    permitted("hugetlb")
    seen, verdict = runner.run(huge(FIVE))
    assert seen.mapped or stays_as_it_was(seen)
    assert not verdict.violations
    assert runner.run(FIVE)[0].mapped


# ---- which cases are run ----------------------------------------------------------


def test_every_kind_is_set_up_at_the_first_the_middle_and_the_last_overlay(core):
    (faultless,) = core.worker.run(FIVE)
    found = {kind: kernel_cases(FIVE, faultless, kind) for kind in KERNEL_FAULT_KINDS}
    places = {kind: [case.kernel_fault.at for case in cases] for kind, cases in found.items()}
    assert places["address_space"] == [1, 2, 4, 6]
    assert places["seccomp"] == [2, 4, 6]
    assert all(places.values())
    assert all(max(at) in (0, 6) for at in places.values())
    for case in itertools.chain(*found.values()):
        check_that_it_is_a_case(case)
        assert from_json(case.to_json()) == case


def test_the_long_layout_is_one_that_must_be_mapped_and_whose_overlays_never_merge(core):
    case = long_case()
    assert expect(case).must_map
    assert len(expect(case).overlays) == len(case.iovec) == 300


def test_a_kernel_fault_is_for_one_call_and_huge_pages_for_whole_ones():
    with pytest.raises(InputError, match="0x200000"):
        check_that_it_is_a_case(replace(FIVE, kernel_fault=KernelFault("hugetlb")))
    with pytest.raises(InputError, match="together in one case"):
        check_that_it_is_a_case(replace(FIVE, kernel_fault=KernelFault("sealed"), sequence=(End(0),)))


# ---- the campaign, its report, and shrinking ----------------------------------------------------------


def test_the_core_conforms_under_every_kind_that_this_machine_permits():
    result = check(CORE, Options(examples=400, seed=3))
    assert not result.confirmed
    assert not result.unconfirmed
    assert [entry.kind for entry in result.kernel_faults] == list(KERNEL_FAULT_KINDS)
    for entry in result.kernel_faults:
        assert entry.runs >= 5 or kernel_faults.why_not(entry.kind) is not None


def text_of(report) -> str:
    page = io.StringIO()
    print_report(report, Console(file=page, width=90, highlight=False, markup=False))
    return " ".join(page.getvalue().split())


def test_kinds_that_the_machine_does_not_permit_are_reported_with_the_reason():
    reasons = {"seccomp": "the warden says no", "map_count": "the sea is too wide"}
    options = Options(examples=20)
    result = check(CORE, options, why_no_kernel_fault=reasons.get)
    report = make_report(CORE, options, result)
    written = {entry["kind"]: entry for entry in json.loads(report.to_json())["kernel_faults"]}
    assert {kind: entry["reason"] for kind, entry in written.items() if not entry["runs"]} == reasons
    assert written["sealed"]["reason"] is None or kernel_faults.why_not("sealed")
    text = text_of(report)
    assert "seccomp not exercised: the warden says no." in text
    assert "map_count not exercised: the sea is too wide." in text
    assert "address_space: " not in text


def test_where_everything_was_exercised_the_report_says_so_in_one_line():
    entries = tuple(kernel_faults.KernelRuns(kind, 5, None) for kind in KERNEL_FAULT_KINDS)
    result = replace(check_case(CORE, Options(), FIVE), kernel_faults=entries)
    text = text_of(make_report(CORE, Options(), result))
    assert "Failures that the kernel itself made: 9 of 9 kinds, in 45 calls." in text
    assert "exercised:" not in text.partition("Failures that")[2].partition("Not exercised")[0]


@needs_compiler
def test_a_subject_that_maps_nothing_leaves_no_layout_for_kernel_faults():
    with built_once(SUBJECTS / "broken" / "everything_refused.c") as subject:
        result = check(subject, Options(examples=20))
    assert {entry.runs for entry in result.kernel_faults} == {0}
    assert all(entry.reason for entry in result.kernel_faults)


@needs_compiler
def test_a_finding_is_shrunk_with_its_kernel_fault_and_comes_again_from_its_case():
    with built_once(SUBJECTS / "broken" / "writable_first.c") as subject:
        (found,) = check(subject, Options(examples=20)).confirmed
        assert found.clause == "ACCEPTS_VALID"
        assert found.case.kernel_fault == KernelFault("read_only_descriptor")
        assert (len(found.case.iovec), found.case.total_size, found.case.fault_plan) == (1, PAGE, ())
        (again,) = check_case(subject, Options(), from_json(found.case.to_json())).confirmed
        assert (again.clause, again.summary, again.seen) == (found.clause, found.summary, found.seen)


@needs_compiler
def test_a_kernel_fault_that_a_finding_does_not_need_is_dropped_and_one_that_it_does_moves_to_the_front():
    with runner_of("broken/never_unmapped") as never:
        case = never.subject.adapt(replace(FIVE, kernel_fault=KernelFault("closed_descriptor", 5)))
        (seen,) = never.worker.run(case)
        (violation,) = judge(case, expect(case), seen).violations
        small = confirm_and_minimize(never, [Candidate(violation, ())]).violation.case
        assert small.kernel_fault.kind == "closed_descriptor"
        assert small.kernel_fault.at <= 2
        assert len(small.iovec) == 1
    with runner_of("broken/private_overlays") as private:
        case = private.subject.adapt(replace(FIVE, kernel_fault=KernelFault("read_only_descriptor", 3)))
        (seen,) = private.worker.run(case)
        violation = judge(case, expect(case), seen).violations[0]
        assert confirm_and_minimize(private, [Candidate(violation, ())]).violation.case.kernel_fault is None


# ---- other machines ----------------------------------------------------------


def test_what_is_known_against_a_kind_is_said_in_words(tmp_path):
    assert "1048576" in kernel_faults._why_no_map_count(write(tmp_path, "1048576"))
    assert kernel_faults._why_no_map_count(write(tmp_path, "65530")) is None
    assert "cannot be read" in kernel_faults._why_no_map_count(tmp_path / "nothing")
    assert "no filter is written for vax" in kernel_faults._why_no_seccomp("vax")
    assert "F_SEAL_FUTURE_WRITE" in kernel_faults._why_no_memfd(0, seal=True)  # such a memfd allows no seals
    assert kernel_faults._why_no_memfd(1 << 30).startswith("memfd_create(2): ")


def write(directory: Path, text: str) -> Path:
    path = directory / "limit"
    path.write_text(text)
    return path


def checked_in_a_process(script: str) -> str:
    """What `check` of the core says there of kernel faults."""
    script += """
import sys
from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.subject.subject import CORE
if __name__ == "__main__":
    result = check(CORE, Options(examples=15))
    assert not result.confirmed and not result.unconfirmed, result
    for entry in result.kernel_faults:
        print(entry.kind, entry.runs, entry.reason)
"""
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PRCTL, SECCOMP = {"x86_64": (157, 317), "aarch64": (167, 277)}.get(os.uname().machine, (None, None))


@pytest.mark.skipif(PRCTL is None, reason="the numbers of the two calls are not known here")
def test_a_machine_that_refuses_what_seemed_permitted_is_reported_and_the_rest_goes_on():
    """In here both calls that install a filter are filtered, as in a container that allows none of one's own."""
    permitted("seccomp")
    said = checked_in_a_process(
        f"""
import ctypes, struct
def op(code, yes, no, k):
    return struct.pack("=HBBI", code, yes, no, k)
filter = b"".join([
    op(0x20, 0, 0, 0), op(0x15, 3, 0, {SECCOMP}), op(0x15, 0, 3, {PRCTL}), op(0x20, 0, 0, 16), op(0x15, 0, 1, 22),
    op(0x06, 0, 0, 0x00050001), op(0x06, 0, 0, 0x7FFF0000),
])
buffer = ctypes.create_string_buffer(filter, len(filter))
program = struct.pack("H6xP", 7, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
"""
    )
    (line,) = (line for line in said.splitlines() if line.startswith("seccomp"))
    assert re.fullmatch(r"seccomp 0 the kernel fault cannot be set up: Operation not permitted", line)
    assert all(" 0 " not in line for line in said.splitlines() if line.startswith(("sealed", "closed", "address")))


@pytest.mark.skipif(os.getuid() != 0, reason="without privilege every test here shows it")
def test_nothing_needs_privilege():
    """A process without a capability to its name, as are those that it starts."""
    said = checked_in_a_process(
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert [cap for cap in range(41) if libc.prctl(24, cap, 0, 0, 0) == 0] != []  # PR_CAPBSET_DROP
"""
    )
    runs = {line.split()[0]: int(line.split()[1]) for line in said.splitlines()}
    assert all(runs[kind] > 0 for kind in KERNEL_FAULT_KINDS if kernel_faults.why_not(kind) is None)
