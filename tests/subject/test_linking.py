"""Shared libraries that a C file calls (`--link`): what they do is seen, made to fail and confined."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import commands
import pytest
from msgspec.structs import replace
from places import CHECKOUT
from short_checks import no_kernel_faults
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.campaign import cluster
from vfio_verify.campaign.check import check, check_case
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.report.report import make_report
from vfio_verify.search.place import identity
from vfio_verify.subject.source.given import Given
from vfio_verify.subject.subject import Subject, open_subject
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.observation import FAULTED, STEPS
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Worker

pytestmark = [
    needs_compiler,
    pytest.mark.not_under_asan("its runtime refuses RTLD_DEEPBIND, by which the libraries' calls are seen"),
]

INCLUDE = CHECKOUT / "vfio_verify" / "include"
DOCUMENT = (CHECKOUT / "docs" / "subjects.md").read_text()
ADAPTERS = re.findall(r"^```c\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
(ADAPTER,) = (block for block in ADAPTERS if "vfio_verify_map" in block and "{\n" in block)
CASE = Case(
    (Device((Region(0, 8 * PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE), Segment(0, 4 * PAGE, PAGE)), 2 * PAGE
)
LINKED = DIRECTORY / "linked"
EMPTY = "int own_map(void *s, long n, long t, void **a) { return s && n && t && a; }"

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a library of a file in subjects/linked/, or of a text in C."""

    def built(source: str, *options: str, name: str = "libhelper.so") -> Path:
        if "\n" in source or " " in source:
            (tmp_path / "text.c").write_text(source)
        file = LINKED / source if (LINKED / source).is_file() else tmp_path / "text.c"
        flags = ["-O2", "-shared", "-fPIC", "-D_GNU_SOURCE", f"-I{INCLUDE}"]
        compiler = "c++" if file.suffix == ".cc" else "cc"
        subprocess.run([compiler, *flags, *options, "-o", tmp_path / name, file], check=True, timeout=120)
        return tmp_path / name

    return built


@contextmanager
def linked(directory: Path, *libraries: Path, adapter: str = ADAPTER) -> Iterator[Subject]:
    (directory / "adapter.c").write_text(adapter)
    given = Given(links=tuple(map(str, libraries)))
    with open_subject(str(directory / "adapter.c"), given=given) as subject:
        yield subject


def assert_conforms(subject: Subject, examples: int) -> None:
    options = Options(examples=examples, jobs=1)
    report = make_report(subject, options, check(subject, options, why_no_kernel_fault=no_kernel_faults))
    assert report.verdict == "conforms", report.to_json().decode()
    exercised = {clause.id for clause in report.clauses if clause.checked}
    assert {"UNMAP_ON_ERROR", "CONFINED", "FAULT_REPORTED", "NO_WINDOW"} <= exercised


# ---- the example, and other languages ----------------------------------------------------------------------


def test_the_example_of_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    """Its commands, with a right library and with one that has a fault."""
    (block,) = (
        text for text in re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL) if "-shared" in text
    )
    build, checked = (line.split() for line in block.splitlines())
    (tmp_path / "adapter.c").write_text(ADAPTER)
    shutil.copy(LINKED / "helper.c", tmp_path)
    for deed, status in ((), 0), (("-DKEEPS",), 1):
        subprocess.run([*build, "-D_GNU_SOURCE", f"-I{INCLUDE}", *deed], cwd=tmp_path, check=True, timeout=60)
        ended = commands.run(*checked[1:], "--examples", 20, "--jobs", 1, cwd=tmp_path)
        assert ended.returncode == status, ended.stdout + ended.stderr
    assert "1. UNMAP_ON_ERROR: a failed call leaves pages mapped" in ended.stdout
    assert re.search(r"^   fault  +mmap\(\) number 2 fails with \w+$", ended.stdout, re.MULTILINE)
    assert "vfio-verify check adapter.c --link libhelper.so --function vfio_verify_map --case '{" in ended.stdout


def test_the_interface_in_the_documentation_is_that_of_the_header() -> None:
    header = (INCLUDE / "vfio_verify.h").read_text()
    (struct,) = re.findall(r"^struct vfio_verify_segment \{.*?^\};\n", header, re.MULTILINE | re.DOTALL)
    assert struct in DOCUMENT


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_a_right_library_in_cxx_conforms(build: Build, tmp_path: Path) -> None:
    with linked(tmp_path, build("helper.cc")) as subject:
        assert_conforms(subject, 20)


@pytest.mark.skipif(not shutil.which("rustc"), reason="needs rustc")
def test_a_right_library_in_rust_conforms(tmp_path: Path) -> None:
    library = tmp_path / "libhelper.so"
    command = ["rustc", "-O", "--edition", "2021", "--crate-type", "cdylib", "-o", library, LINKED / "helper.rs"]
    subprocess.run(command, check=True, timeout=300)
    with linked(tmp_path, library) as subject:
        assert_conforms(subject, 20)


def test_a_library_may_keep_memory_of_the_heap_from_one_call_to_the_next(build: Build, tmp_path: Path) -> None:
    with linked(tmp_path, build("helper.c", "-DHOLDS")) as subject:
        assert_conforms(subject, 10)


def test_a_helper_of_another_signature_is_called_by_an_adapter_of_a_known_one(build: Build, tmp_path: Path) -> None:
    adapter = """
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-region.h"
#include <vfio_verify.h>

int own_map(const struct vfio_verify_segment *segments, size_t n, size_t total, void **address);

bool mine(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)
{
    struct vfio_verify_segment *segments = calloc(n, sizeof(*segments));
    struct vfio_region_info *info;
    ram_addr_t offset;

    for (unsigned int i = 0; i < n; i++) {
        RAMBlock *block = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        VFIORegion *region = block ? vfio_get_region_from_mr(block->mr) : NULL;

        segments[i] = (struct vfio_verify_segment){iov[i].iov_base, iov[i].iov_len, -1};
        if (region && vfio_device_get_region_info(region->vbasedev, region->nr, &info) == 0) {
            segments[i].fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
            segments[i].offset = info->offset + block->mr->addr + offset;
            segments[i].available = block->max_length - offset;
            segments[i].block = (uintptr_t)block->host >> 12;
        }
    }
    int error = own_map(segments, n, total, addr);
    free(segments);
    if (error) {
        error_setg_errno(errp, error, "own_map");
    }
    return !error;
}
"""
    with linked(tmp_path, build("helper.c"), adapter=adapter) as subject, Worker(subject.library) as worker:
        (seen,) = worker.run(CASE)
        assert [STEPS[event.step] for event in seen.trace()][-3:] == ["mmap"] * 3
        assert not check_case(subject, Options(), CASE).confirmed


@pytest.mark.parametrize(
    "head",
    [
        "long f(const struct vfio_verify_segment *segments, unsigned long n, uint64_t total_size, void **address)",
        "static int8_t f(struct vfio_verify_segment *segments, int n, size_t total_size, void **address)",
    ],
)
def test_integers_of_an_adapter_may_be_of_any_type(build: Build, tmp_path: Path, head: str) -> None:
    own = ADAPTER[ADAPTER.index("int vfio_verify_map(") :].partition("\n")[0]
    with linked(tmp_path, build("helper.c"), adapter=ADAPTER.replace(own, head)) as subject:
        assert not check_case(subject, Options(), CASE).confirmed


# ---- what a library does is seen ---------------------------------------------------------------------------


def test_calls_of_a_library_are_recorded_and_made_to_fail(build: Build, tmp_path: Path) -> None:
    with linked(tmp_path, build("helper.c")) as subject, Worker(subject.library) as worker:
        seen, failed = worker.run(CASE)[0], worker.run(CASE.with_faults(Fault("mmap", 3, "ENOMEM")))[0]
    assert [STEPS[event.step] for event in seen.trace()] == ["mmap"] * 3
    assert [event.flags & FAULTED for event in failed.trace()] == [0, 0, FAULTED, 0]


def test_of_a_crash_in_a_library_the_line_is_told_that_called_it(build: Build, tmp_path: Path) -> None:
    three = replace(CASE, iovec=(*CASE.iovec, Segment(0, 2 * PAGE, PAGE)), total_size=3 * PAGE)
    with linked(tmp_path, build("helper.c", "-DCRASHES")) as subject, Worker(subject.library) as worker:
        assert worker.run(CASE)[0].death is None
        death = worker.run(three)[0].death
        assert death is not None
        lines = [line.text for place in death.frames if (line := subject.line_at(place))]
        assert lines[0].strip() == "return own_map(segments, n, total_size, address);"


def test_a_library_that_calls_the_kernel_by_itself_does_not_conform(build: Build, tmp_path: Path) -> None:
    text = (LINKED / "helper.c").read_text()
    calls = "".join(f"#define {name}(...) own_{name}(__VA_ARGS__)\n" for name in ("mmap", "munmap"))
    calls += """
static long by_itself(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
static void *own_mmap(void *at, size_t length, int access, int flags, int fd, off_t offset)
{
    const long result = by_itself(9, (long)at, (long)length, access, flags, fd, offset);

    errno = result < 0 ? (int)-result : errno;
    return result < 0 ? MAP_FAILED : (void *)result;
}
static void own_munmap(void *at, size_t length) { by_itself(11, (long)at, (long)length, 0, 0, 0, 0); }
"""
    text = text.replace("#include <vfio_verify.h>\n", "#include <vfio_verify.h>\n" + calls)
    try:
        library = build(text)
    except subprocess.CalledProcessError:
        pytest.skip("written for x86-64")
    with linked(tmp_path, library) as subject:
        result = check_case(subject, Options(), CASE)
        report = make_report(subject, Options(), result)
    assert report.verdict == "unconfirmed"
    assert report.doubts == ("it maps memory by system calls that could not be seen",)
    assert report.why_not_exercised("CONFINED") == report.doubts[0]


# ---- the sandbox -------------------------------------------------------------------------------------------


def test_a_library_is_confined(build: Build, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the user's")
    with linked(tmp_path, build("helper.c", f'-DOPENS="{secret}"')) as subject:
        with Worker(subject.library) as worker:
            if not worker.confinement.landlock:
                pytest.skip("this kernel has no Landlock")
            assert worker.run(CASE)[0].death is None
        with Worker(subject.library, parts=SandboxFeature.NONE) as worker:
            assert worker.run(CASE)[0].death is not None


# ---- what cannot be linked ---------------------------------------------------------------------------------


def refusal(directory: Path, *libraries: Path) -> str:
    """What is said of libraries before anything runs, or when they are loaded."""
    with (
        pytest.raises(InputError) as refused,
        linked(directory, *libraries) as subject,
        Worker(subject.library),
    ):
        pass
    said = str(refused.value)
    return said.replace(f"{directory}/", "")


def test_a_library_that_cannot_be_read_is_refused(build: Build, tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "none.so") == "--link none.so: No such file or directory"
    assert refusal(tmp_path, tmp_path) == f"--link {tmp_path}: Is a directory"
    text = tmp_path / "text.so"
    text.write_text("no library\n" * 10)
    assert refusal(tmp_path, text) == "--link text.so: it is no ELF file"
    data = build("helper.c").read_bytes()
    text.write_bytes(data[:2000])
    assert refusal(tmp_path, text) == "--link text.so: it is damaged: its dynamic section cannot be read"
    text.write_bytes(data[:18] + b"\x08\x00" + data[20:])  # MIPS
    assert refusal(tmp_path, text) == "--link text.so: it is for another kind of processor than this machine's"


def test_what_is_no_shared_library_is_refused(build: Build, tmp_path: Path) -> None:
    program = tmp_path / "program"
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    for options in ("-pie", "-fPIE"), ("-no-pie",), ("-c",):
        subprocess.run(["cc", *options, "-o", program, tmp_path / "main.c"], check=True)
        assert refusal(tmp_path, program) == "--link program: it is an ELF file, but no shared library"
    archive = tmp_path / "libhelper.a"
    archive.write_bytes(b"!<arch>\n")
    assert refusal(tmp_path, archive).startswith("--link libhelper.a: it is a static archive; make a shared library")


def test_two_libraries_of_one_name_are_refused(build: Build, tmp_path: Path) -> None:
    one, two = (build("helper.c", "-Wl,-soname,libown.so.1", name=name) for name in ("one.so", "two.so"))
    assert refusal(tmp_path, one, two) == "--link two.so: one.so has the same name, libown.so.1"
    bad = build("helper.c", "-Wl,-soname,../../up.so")
    assert refusal(tmp_path, bad).startswith("--link libhelper.so: '../../up.so' is no name for a library here")


def test_a_name_that_no_library_has_is_told(build: Build, tmp_path: Path) -> None:
    assert refusal(tmp_path, build("int other(void) { return 0; }")).startswith(
        "the world does not know `own_map` (adapter.c:7)\nDefine such names in the file that you give, or give the "
        "library that has them with --link FILE.so"
    )
    calls = "int gone(void); int own_map(void) { return gone(); }"
    assert refusal(tmp_path, build(calls)) == "the subject cannot be loaded: libhelper.so: undefined symbol: gone"


def test_a_library_that_another_one_needs_is_given_as_well(build: Build, tmp_path: Path) -> None:
    needed = build("helper.c", "-Wl,-soname,libneeded.so.1", name="libneeded.so")
    library = build("int other(void) { return 0; }", "-Wl,--no-as-needed", str(needed))
    assert refusal(tmp_path, library).startswith("the world does not know `own_map`")
    adapter = "int other(void);\n" + ADAPTER.replace("return own_map", "return other() || own_map")
    calls = build("int call(void) { return 0; }", "-Wl,--no-as-needed", str(needed), name="libcall.so")
    assert "libneeded.so.1: cannot open shared object file" in refusal(tmp_path, build(EMPTY, name="libe.so"), calls)
    assert "--link FILE.so gives it too" in refusal(tmp_path, build(EMPTY, name="libe.so"), calls)
    with linked(tmp_path, library, needed, adapter=adapter) as subject:
        assert not check_case(subject, Options(), CASE).confirmed


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("kill(getpid(), SIGSEGV);", "the subject ends its process while it is loaded: SIGSEGV"),
        ("_exit(3);", "the subject ends its process while it is loaded: abort: called _exit(3)"),
    ],
)
def test_a_library_that_fails_while_it_is_loaded_is_refused(build: Build, tmp_path: Path, deed: str, said: str) -> None:
    constructor = f"__attribute__((constructor)) static void at_first(void) {{ {deed} }}"
    library = build(f"#include <signal.h>\n#include <unistd.h>\n{constructor}\n{EMPTY}")
    assert refusal(tmp_path, library).startswith(said)


def test_a_library_that_is_given_as_the_subject_is_refused(build: Build) -> None:
    library = build("helper.c")
    with pytest.raises(InputError) as refused, open_subject(str(library)):
        pass
    assert str(refused.value) == f"{library} is a binary file; give a C file that calls it, and --link {library}"


# ---- elsewhere ---------------------------------------------------------------------------------------------


def test_a_subject_and_its_libraries_go_to_a_cluster_together(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with linked(tmp_path, build("helper.c")) as subject:
        unpack, packed = cluster._with_library(subject)
    monkeypatch.setattr(cluster, "_home", lambda: tmp_path / "there")
    there = unpack(*packed)
    with Worker(there.library) as worker:
        assert worker.run(CASE)[0].n_events == 3


def test_another_library_makes_another_search(build: Build, tmp_path: Path) -> None:
    found = set()
    for options in (), ("-DKEEPS",), ():
        with linked(tmp_path, build("helper.c", *options)) as subject:
            found.add(identity(subject))
    assert len(found) == 2


def test_cases_of_a_library_are_kept_replayed_and_shrunk(build: Build, tmp_path: Path) -> None:
    library = build("helper.c", "-DKEEPS")
    (tmp_path / "adapter.c").write_text(ADAPTER)
    faulty = CASE.with_faults(Fault("mmap", 3, "ENOMEM"))
    case = tmp_path / "case.json"
    case.write_bytes(faulty.to_json())
    given = ("--link", library.name, "--function", "vfio_verify_map")
    kept = commands.run("check", "adapter.c", *given, "--case", case, "--corpus", "kept", cwd=tmp_path)
    assert kept.returncode == 1, kept.stderr
    again = commands.run("replay", "kept", "--subject", "adapter.c", *given, cwd=tmp_path)
    assert (again.returncode, "1 still failing" in again.stdout) == (1, True), again.stdout + again.stderr
    small = commands.run("shrink", case, "--subject", "adapter.c", *given, cwd=tmp_path)
    assert small.returncode == 0, small.stdout + small.stderr
