"""Places in a subject's code: who called the world, where a process ended, and the lines that they are of."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run
from made_runs import VALID
from msgspec.structs import replace
from rich.console import Console

from vfio_verify.campaign.check import check_case
from vfio_verify.campaign.frontier import Frontier, places
from vfio_verify.campaign.line_coverage import line_coverage
from vfio_verify.campaign.options import Options
from vfio_verify.corpus.entry import read_entry
from vfio_verify.corpus.merge import merged
from vfio_verify.report.case_text import fault_text
from vfio_verify.report.report import Report, make_report
from vfio_verify.report.text import coverage_lines, print_report
from vfio_verify.subject.source import read_source
from vfio_verify.subject.source.branches import branches_of
from vfio_verify.subject.subject import Subject, open_subject
from vfio_verify.values.case import PAGE, Case, Fault, Segment, Step
from vfio_verify.values.observation import NOWHERE, STEPS, Observation
from vfio_verify.values.source_line import SourceLine
from vfio_verify.values.words import call_text
from vfio_verify.worker.worker import Worker

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

HEAD = """\
#include <sys/mman.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long nothing(void) { return 0; }

static inline void *reserve(size_t total)
{
    return mmap(NULL, total, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* reserved */
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, void **addr, size_t total_size, Error **errp)
{
"""


def written(path: Path, body: str, head: str = HEAD) -> Path:
    path.write_text(f"{head}{body}\n}}\n", encoding="utf-8")
    return path


def line_of(path: Path, mark: str) -> int:
    """The number of the only line that has this comment."""
    (number,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if f"/* {mark} */" in text]
    return number


def once(subject: Subject, case: Case = VALID, *plan: Fault) -> Observation:
    with Worker(subject.library, cpu_seconds=0.3, sleep_seconds=0.5) as worker:
        (seen,) = worker.run(case, [plan])
        return seen


def innermost(subject: Subject, seen: Observation) -> SourceLine | None:
    assert seen.death is not None
    return next((line for line in map(subject.line_at, seen.death.frames) if line), None)


CALLS = """\
    void *base = reserve(total_size);
    struct VFIODevice *device = NULL;
    if (!vfio_device_lookup(iov, &device, errp)) { /* looked up */
        munmap(base, total_size); /* given back */
        return false;
    }
    close(dup(
        0)); /* end of the statement */
    *addr = base;
    error_setg(errp, "one"); /* set */
    munmap(base,
           total_size);
    return false;
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_each_call_and_each_error_has_the_line_that_made_it(compiler: str, tmp_path: Path, monkeypatch) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    monkeypatch.setenv("CC", compiler)
    path = written(tmp_path / "helper.c", CALLS)
    with open_subject(str(path)) as subject:
        seen = once(subject)
        lines = {STEPS[event.step]: subject.line_at(event.caller) for event in seen.trace()}
        assert lines["mmap"] == SourceLine(
            str(path),
            line_of(path, "reserved"),
            "reserve",
            "return mmap(NULL, total, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* reserved */",
        )
        assert lines["find_device"].line == line_of(path, "looked up")
        assert lines["dup"].line in (line_of(path, "end of the statement") - 1, line_of(path, "end of the statement"))
        assert lines["munmap"].line in (line_of(path, "set") + 1, line_of(path, "set") + 2)
        (error,) = seen.error_at
        assert subject.line_at(error).line == line_of(path, "set")
        # An error that a look-up of the world sets is of the line that asked.
        failed = once(subject, VALID, Fault("find_device", 1))
        (error,) = failed.error_at
        assert subject.line_at(error).line == line_of(path, "looked up")


def test_the_core_has_no_places() -> None:
    with Worker() as worker:
        (seen,) = worker.run(VALID, [()])
    assert {event.caller for event in seen.trace()} == {NOWHERE}


ENDS = {
    "a write through NULL": "*(volatile int *)nothing() = 1; /* here */",
    "a read by the C library": "memcpy((void *)total_size, (void *)nothing(), 100 + iov_cnt); /* here */",
    "a call of what is no function": "((void (*)(void))nothing())(); /* here */",
    "abort": "if (!nothing()) abort(); /* here */",
    "an assertion": "g_assert(nothing()); /* here */",
    "a division by zero": "volatile int none = 0; *addr = (void *)(long)(iov_cnt / none); /* here */",
    "a trap": "if (!nothing()) __builtin_trap(); /* here */",
    "an endless loop": 'while (!nothing()) { __asm__ volatile(""); } /* here */',
    "a sleep": "while (!nothing()) { sleep(100); } /* here */",
    "a message of nothing": 'error_setg(errp, "%s", (char *)8 + nothing()); /* here */',
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_process_has_its_line(end: str, tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", f"    {ENDS[end]}\n    return false;")
    with open_subject(str(path)) as subject:
        found = innermost(subject, once(subject))
    assert found is not None
    assert (found.line, found.function) == (line_of(path, "here"), "vfio_device_mmap_dmabuf")


def test_a_stack_that_overflows_is_told_by_its_innermost_frames(tmp_path: Path) -> None:
    head = HEAD.replace(
        "bool vfio",
        "static long deeper(volatile long n)\n{\n    return n + deeper(n + 1) + n; /* deep */\n}\n\nbool vfio",
    )
    path = written(tmp_path / "helper.c", "    return deeper(total_size);", head)
    with open_subject(str(path)) as subject:
        found = innermost(subject, once(subject))
    assert found is not None
    assert abs(found.line - line_of(path, "deep")) <= 2
    assert found.function == "deeper"


def test_a_header_and_a_macro_of_several_lines_have_the_lines_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "dm.h").write_text(
        "#define TWICE(x) \\\n    do { \\\n        x; \\\n        x; \\\n    } while (0)\n\n"
        "static inline void *of_header(size_t total)\n{\n"
        "    return mmap(NULL, total, 0, 0x21, -1, 0); /* header */\n}\n"
    )
    body = "    void *p = of_header(total_size);\n    TWICE(munmap(p, total_size)); /* twice */\n    return false;"
    path = written(tmp_path / "helper.c", body, '#include "dm.h"\n' + HEAD)
    with open_subject(str(path)) as subject:
        first, *others = [subject.line_at(event.caller) for event in once(subject).trace()]
    assert (Path(first.file).name, first.line) == ("dm.h", line_of(tmp_path / "dm.h", "header"))
    assert [(line.file, line.line) for line in others] == [(str(path), line_of(path, "twice"))] * 2


def test_a_file_included_in_a_function_has_its_own_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.inc").write_text("\nmunmap(iov, total_size); /* included */\n")
    written(tmp_path / "helper.c", '#include "calls.inc"\n    return false;')
    with open_subject("helper.c") as subject:
        (event,) = once(subject).trace()
        line = SourceLine("calls.inc", 2, "vfio_device_mmap_dmabuf", "munmap(iov, total_size); /* included */")
        assert subject.line_at(event.caller) == line


KEPT = """\
    void *p = malloc(10), *q = malloc(20); /* made */
    memset(q, 0, 20);
    free(q);
    free(q); /* again */
    return !p;
"""


def test_what_was_left_and_what_was_freed_wrongly_have_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", KEPT)
    with open_subject(str(path)) as subject:
        seen = once(subject)
        assert subject.line_at(seen.heap_at).line == line_of(path, "made")
        assert subject.line_at(seen.free_at).line == line_of(path, "again")


DEAF = """\
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    while (!nothing()) {
    }
    return false;
"""


def test_a_subject_that_is_deaf_to_the_question_still_hangs(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", DEAF, "#include <signal.h>\n" + HEAD)
    with open_subject(str(path)) as subject:
        seen = once(subject)
    assert seen.death.how == "hang"
    assert not seen.death.frames


def test_a_library_without_debug_information_has_no_lines(tmp_path: Path) -> None:
    if not shutil.which("strip"):
        pytest.skip("no strip here")
    import subprocess

    path = written(tmp_path / "helper.c", CALLS)
    with open_subject(str(path)) as subject:
        subprocess.run(["strip", "--strip-debug", str(subject.library)], check=True)
        seen = once(subject)
        assert [subject.line_at(event.caller) for event in seen.trace()] == [None] * seen.n_events


@pytest.mark.parametrize("address", [0, 1, 2**32, NOWHERE, 2**63])
def test_an_address_that_is_none_has_no_line(address: int, tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", CALLS)
    with open_subject(str(path)) as subject:
        assert subject.line_at(address) is None


FORGED = """\
    __asm__(".section .debug_line,\\"\\",@progbits\\n.fill 4000,1,0xff\\n.previous\\n"
            ".section .debug_info,\\"\\",@progbits\\n.fill 4000,1,0x7f\\n.previous\\n");
    return reserve(total_size) && false;
"""


def test_debug_information_that_is_none_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", FORGED)
    with open_subject(str(path)) as subject:
        seen = once(subject)
        assert all(
            found is None or found.file == str(path) for found in (subject.line_at(e.caller) for e in seen.trace())
        )


# ---- in a report ------------------------------------------------------------------------------------------------

RESULTS = {
    "find_device": ("vfio_device_lookup(block 0) = true", "vfio_device_lookup(block 0) = false"),
    "find_block": ("qemu_ram_block_from_host(block 0) = block 0", "qemu_ram_block_from_host(block 0) = NULL"),
    "find_index": ("vfio_get_region_index_from_mr(block 0) = index 2", "vfio_get_region_index_from_mr(block 0) = -1"),
    "find_region": ("vfio_get_region_from_mr(block 0) = region 2", "vfio_get_region_from_mr(block 0) = NULL"),
    "region_info": ("vfio_device_get_region_info(region 2) = 0", "vfio_device_get_region_info(region 2) = -EIO"),
    "region_fd": ("vfio_device_get_region_fd(region 2) = fd of device 0", "vfio_device_get_region_fd(region 2) = -1"),
}
LOOK_UPS = """\
    struct vfio_region_info *info;
    struct VFIODevice *device = NULL;
    ram_addr_t offset;
    RAMBlock *block;

    vfio_device_lookup(iov, &device, NULL);
    block = qemu_ram_block_from_host(iov->iov_base, false, &offset);
    block = block ? block : qemu_ram_block_from_host(iov->iov_base, false, &offset);
    device = device ? device : vfio_get_region_from_mr(block->mr)->vbasedev;
    vfio_get_region_index_from_mr(block->mr);
    vfio_get_region_from_mr(block->mr);
    vfio_device_get_region_info(device, 2, &info);
    vfio_device_get_region_fd(device, 2);
    return false;
"""


@pytest.fixture(scope="module")
def looking_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with open_subject(str(written(tmp_path_factory.mktemp("look") / "helper.c", LOOK_UPS))) as subject:
        yield subject


@pytest.mark.parametrize("step", RESULTS)
def test_the_answer_of_a_look_up_is_told_by_name_and_has_an_errno_only_if_the_caller_hears_of_one(
    step: Step, looking_up: Subject
) -> None:
    case = replace(VALID, ram_blocks=VALID.ram_blocks[1:], iovec=(Segment(0, 0, PAGE),), total_size=PAGE)
    found, missed = RESULTS[step]
    texts = [call_text(event, case, seen) for seen in [once(looking_up, case)] for event in seen.trace()]
    assert found in texts
    fault = Fault(step, 1, "EIO")
    seen = once(looking_up, case, fault)
    texts = [call_text(event, case, seen) for event in seen.trace()]
    assert missed in texts
    assert ("EIO" in fault_text(fault)) == (step == "region_info")


def report_of(path: Path, case: Case) -> Report:
    options = Options(examples=1, seed=0)
    with open_subject(str(path)) as subject:
        return make_report(subject, options, check_case(subject, options, case))


PLACES = {
    "ACCEPTS_VALID": ('error_setg(errp, "no"); /* at fault */', VALID),
    "SURVIVES": ("*(volatile int *)nothing() = 1; /* at fault */", VALID),
    "CONFINED": ('munmap(iov->iov_base, 4096); /* at fault */ error_setg(errp, "no");', VALID),
    "NO_LEAK": ('*addr = strdup("kept"); /* at fault */ error_setg(errp, "no");', VALID),
    "UNMAP_ON_ERROR": ('reserve(total_size); error_setg(errp, "no"); /* at fault */', VALID),
    "FAULT_REPORTED": (
        (
            "vfio_device_lookup(iov, &(struct VFIODevice *){NULL}, NULL); /* at fault */ *addr = reserve(total_size);"
            " return true;"
        ),
        VALID.with_faults(Fault("find_device", 1)),
    ),
    "CONTENTS": (
        (
            "*addr = reserve(total_size); struct VFIODevice *d = NULL; vfio_device_lookup(iov, &d, NULL);"
            " for (unsigned i = 0; i < 2; i++)\n"
            "        mmap(*addr, 4096, 1, 0x11, d->fd, 0);\n"
            "    mmap((char *)*addr + 4096, 8192, 1, 0x11, d->fd, 0); /* at fault */\n    return true;"
        ),
        VALID,
    ),
    "CONTIGUOUS": ("*addr = reserve(total_size); return true;", VALID),
    "SIZE_AGREES": ("*addr = reserve(total_size); return true;", replace(VALID, total_size=PAGE)),
}


@pytest.mark.parametrize("clause", PLACES)
def test_a_violation_has_the_line_that_is_at_fault(clause: str, tmp_path: Path) -> None:
    body, case = PLACES[clause]
    path = written(tmp_path / "helper.c", f"    {body}\n    return false;")
    found = report_of(path, case)
    (where,) = [violation.where for violation in found.violations if violation.clause == clause]
    assert where is not None
    assert where.line == line_of(path, "at fault" if "at fault" in body else "reserved")
    assert where.text in path.read_text()
    page = io.StringIO()
    print_report(found, Console(file=page, width=80))
    assert f"helper.c:{where.line}" in page.getvalue()
    for entry in found.violations:
        assert len(entry.evidence.lines) == len(entry.evidence.calls)


# ---- what did not run ---------------------------------------------------------------------------------------------

PARTLY = """\
static bool extra(void *p)
{
#ifdef CONFIG_VFIO_EXTRA
    if (!p) {
        return false;
    }
#else
    (void)p;
#endif
    return p;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, void **addr, size_t total_size, Error **errp)
{
    if (!extra(iov)) {
        error_setg(errp, "never"); /* unreached */
        return false;
    }
    if (iov_cnt == 2) {
        error_setg(errp, "rare"); /* rare */
        return false;
    }
    if (iov_cnt == 3) {
        *(volatile int *)0 = 1; /* crash */
    }
#if 0
    nothing that could be compiled
#elif __SIZEOF_POINTER__ == 4
    error_setg(errp, "32 bits"); /* narrow */
#elif !defined(CONFIG_LINUX)
    error_setg(errp, "no Linux"); /* foreign */
#else
    error_setg(errp, "no"); /* last */
#endif
    return false;
"""
SINGLE = replace(VALID, iovec=VALID.iovec[:1], total_size=PAGE)
TRIPLE = replace(VALID, iovec=(*VALID.iovec, VALID.iovec[0]), total_size=4 * PAGE)


def ran(subject: Subject, *cases: Case) -> set[int]:
    """The lines that were reached, out of those that have code."""
    with Worker(subject.library) as worker:
        for case in cases:
            worker.run(case, [()])
        reached, _ = subject.lines_reached(worker.covered())
    return {line.line for line in reached}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_lines_are_reached_by_those_cases_that_reach_them_whatever_ends_the_process(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    monkeypatch.setenv("CC", compiler)
    path = written(tmp_path / "helper.c", PARTLY, "")
    lines = {mark: line_of(path, mark) for mark in ("unreached", "rare", "crash", "last")}
    with open_subject(str(path)) as subject:
        reached, others = subject.lines_reached(b"")
        assert not reached
        assert set(lines.values()) <= {line.line for line in others}

        def marked(*cases: Case) -> set[str]:
            return {mark for mark, line in lines.items() if line in ran(subject, *cases)}

        assert marked(SINGLE) == {"last"}
        assert marked(VALID) == {"rare"}
        assert marked(TRIPLE) == {"crash"}
        assert marked(TRIPLE, SINGLE, VALID) == {"rare", "crash", "last"}


def test_what_no_run_reached_and_what_was_not_compiled_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", PARTLY, "")
    found = report_of(path, SINGLE)
    told = found.coverage
    assert told is not None
    assert 0 < told.reached < told.lines
    assert [(part.first, part.last, part.why) for part in told.compiled_out] == [
        (4, 6, "CONFIG_VFIO_EXTRA is not defined"),
        (line_of(path, "narrow") - 2, line_of(path, "narrow") - 2, "#if 0"),
        (*[line_of(path, "narrow")] * 2, "`__SIZEOF_POINTER__ == 4` is false, or another branch is compiled"),
        (*[line_of(path, "foreign")] * 2, "CONFIG_LINUX is defined, or another branch is compiled"),
    ]
    starts = {part.first: part for part in told.not_reached}
    assert starts[line_of(path, "rare")].text == 'error_setg(errp, "rare"); /* rare */'
    assert starts[line_of(path, "rare")].function == "vfio_device_mmap_dmabuf"
    page = io.StringIO()
    print_report(found, Console(file=page, width=80))
    assert f"Lines of the subject that ran: {told.reached} of {told.lines}." in page.getvalue()
    assert "helper.c:4-6 compiled out: CONFIG_VFIO_EXTRA is not defined" in page.getvalue()
    assert f"helper.c:{line_of(path, 'rare')}-{line_of(path, 'rare') + 1} not reached: " in page.getvalue()


def test_where_all_ran_one_line_says_so(tmp_path: Path) -> None:
    found = report_of(written(tmp_path / "helper.c", '    error_setg(errp, "no");\n    return false;'), SINGLE)
    assert found.coverage is not None
    assert not found.coverage.not_reached
    (line,) = coverage_lines(found.coverage)
    assert line == f"Lines of the subject that ran: all {found.coverage.lines}."


def test_a_forged_map_of_what_ran_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", PARTLY, "")
    with open_subject(str(path)) as subject:
        reached, others = subject.lines_reached(bytes([255]) * (1 << 20))
        assert reached
        assert not others
        assert line_coverage(subject, bytes(1 << 20)).reached == 0


def test_the_first_case_that_reaches_a_line_is_told_with_its_fault_and_only_once(tmp_path: Path) -> None:
    body = """\
    if (!vfio_device_lookup(iov, &(struct VFIODevice *){NULL}, NULL)) {
        error_setg(errp, "none"); /* none */
        return false;
    }
    if (iov_cnt == 3) {
        error_setg(errp, "three"); /* three */
        return false;
    }
    error_setg(errp, "no"); /* last */
    return false;
"""
    path = written(tmp_path / "helper.c", body)
    plans = [(Fault("mmap", 1, "ENOMEM"),), (Fault("find_device", 1),), (Fault("find_device", 1, persistent=True),)]
    with open_subject(str(path)) as subject, Worker(subject.library) as worker:
        frontier = Frontier(worker, b"")
        faulty = [SINGLE.with_faults(*plan) for plan in plans]
        for cases in ([SINGLE], faulty, [VALID], [TRIPLE]):
            worker.run(cases[0], [case.fault_plan for case in cases])
            frontier.look(cases)
        covered = worker.covered()
        lines_of = [{line.line for line in map(subject.line_at, found) if line} for _, found in frontier.pioneers]
        assert [case for case, _ in frontier.pioneers] == [SINGLE, faulty[1], TRIPLE]
        for lines, mark in zip(lines_of, ("last", "none", "three"), strict=True):
            assert line_of(path, mark) in lines
        assert set().union(*(at_places for _, at_places in frontier.pioneers)) == places(covered)
        again = Frontier(worker, covered)
        again.look([TRIPLE])
        assert not again.pioneers


def test_a_search_keeps_a_case_for_each_new_line_and_merging_them_keeps_it(tmp_path: Path) -> None:
    path = written(tmp_path / "helper.c", PARTLY, "")
    corpus = tmp_path / "corpus"
    ended = run("fuzz", path, "--examples", 30, "--jobs", 1, "--corpus", corpus, cwd=tmp_path)
    assert ended.returncode in (0, 1), ended.stderr
    entries = [read_entry(file.read_bytes(), file.name) for file in corpus.glob("case-*.json")]
    rare = f"helper.c:{line_of(path, 'rare')}"
    assert [len(entry.case.iovec) for entry in entries if rare in entry.lines] == [2]
    assert rare in {line for entry in merged(entries) for line in entry.lines}


def test_what_a_header_leaves_out_is_told_and_its_guard_leaves_nothing_out(tmp_path: Path) -> None:
    extra, _, rest = PARTLY.partition("\nbool ")
    guarded = f"#ifndef EXTRA_H\n#define EXTRA_H\n{extra}\n#endif\n"
    path = tmp_path / "helper.c"
    path.write_text('#include "qemu/osdep.h"\n#include "qapi/error.h"\n#include "extra.h"\n' + f"bool {rest}}}\n")

    def parts(header: str, *defines: str) -> list[str]:
        (tmp_path / "extra.h").write_text(header)
        kept = read_source(str(path)).cut.kept
        return [part.why for part in branches_of(kept, defines) if part.file.endswith("extra.h")]

    inner = ["CONFIG_VFIO_EXTRA is not defined", "CONFIG_VFIO_EXTRA is defined"]
    assert parts(guarded) == inner
    assert parts(guarded, "EXTRA_H=1") == ["EXTRA_H is defined", *inner]
    assert parts(guarded.replace("EXTRA_H\n#define EXTRA_H", "EXTRA_H")) == ["EXTRA_H is defined", *inner]
    assert parts(guarded.replace("#define EXTRA_H", "#define OTHER_H")) == ["EXTRA_H is defined", *inner]
    assert parts(f"#ifndef EXTRA_H\n#define EXTRA_H\n#else\n{extra}\n#endif\n") == ["EXTRA_H is not defined", *inner]
    (tmp_path / "extra.h").write_text(guarded)
    with open_subject(str(path)) as subject:
        assert [part.why for part in subject.left_out if part.file.endswith("extra.h")] == inner[:1]
