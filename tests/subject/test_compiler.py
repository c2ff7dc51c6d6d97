"""Compiling a subject: the entry's answers, the flags, and what is said of a text that does not compile."""

# ruff: noqa: E501  a C text on one line shows what it is

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import descendants

from vfio_verify import _world
from vfio_verify.errors import InputError
from vfio_verify.subject import compiler, driver
from vfio_verify.subject.source import Given, read_source
from vfio_verify.subject.source.world_names import read_names
from vfio_verify.values.case import Case
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Worker

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")

RESOURCE_DEVICE = "void *subject(struct virtio_gpu_simple_resource *res, VFIODevice *vdev)"
RESOURCE = "void *subject(struct virtio_gpu_simple_resource *res)"
BOOL = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
POINTER = "void *subject(struct iovec *iov, unsigned int n, Error **errp)"
SENTINEL = 2**64 - 1


class Call(ctypes.Structure):
    """struct vv_call of call.h."""

    _fields_ = [
        ("iov", ctypes.c_void_p),
        ("iov_cnt", ctypes.c_uint),
        ("total_size", ctypes.c_size_t),
        ("errp", ctypes.c_void_p),
        ("vbasedev", ctypes.c_void_p),
        ("res", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("mapped", ctypes.c_int),
        ("address", ctypes.c_void_p),
    ]


@pytest.fixture
def build(tmp_path):
    """Compile a text given as a C file called subject file.c."""
    path = tmp_path / "subject file.c"
    directory = tmp_path / "build"
    directory.mkdir()

    def build(text: str, function: str | None = "subject") -> Path:
        path.write_text(text)
        return compiler.build(read_source(str(path), function), directory).path

    return build


def ask(library: Path, **given: int) -> tuple[int, int | None]:
    """Call the entry; what it says the subject answered."""
    call = Call(**given, mapped=77, address=0x77)
    ctypes.CDLL(_world.__file__, mode=ctypes.RTLD_GLOBAL)  # has what each block calls
    ctypes.CDLL(str(library)).vfio_verify_entry(ctypes.byref(call))
    return call.mapped, call.address


def symbols(library: Path) -> set[str]:
    listed = subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines()}


# ---- the entry -----------------------------------------------------------------------------------------

ANSWERS = [
    (BOOL, "*addr = (void *)64; return true;", (1, 64)),
    (BOOL, "return true;", (1, SENTINEL)),
    (BOOL, "return false;", (0, SENTINEL)),
    (BOOL, "*addr = NULL; return 256;", (1, None)),
    (POINTER, "return (void *)64;", (1, 64)),
    (POINTER, "return NULL;", (0, None)),
    (POINTER, "return (void *)-1;", (1, SENTINEL)),
    (RESOURCE, "return (void *)64;", (1, 64)),
    (RESOURCE, "return (void *)-1;", (0, SENTINEL)),
    (RESOURCE, "return NULL;", (1, None)),
    (RESOURCE_DEVICE, "return (void *)64;", (1, 64)),
    (RESOURCE_DEVICE, "return (void *)-1;", (0, SENTINEL)),
]


@pytest.mark.parametrize(("head", "body", "answer"), ANSWERS)
def test_the_entry_knows_success_from_failure(build, head, body, answer):
    assert ask(build(f"{head}\n{{\n    {body}\n}}\n")) == answer


ARGUMENTS = [
    (
        BOOL,
        "*addr = (void *)((uintptr_t)iov + 2 * n + 3 * total + 5 * (uintptr_t)errp); return true;",
        1 + 20 + 300 + 5000,
    ),
    (POINTER, "return (void *)((uintptr_t)iov + 2 * n + 5 * (uintptr_t)errp);", 1 + 20 + 5000),
    (RESOURCE, "return (void *)res;", 100000),
    (RESOURCE_DEVICE, "return (void *)((uintptr_t)res + 7 * (uintptr_t)vdev);", 100000 + 70000),
]


@pytest.mark.parametrize(("head", "body", "sum_"), ARGUMENTS)
def test_the_entry_passes_each_argument_in_its_place(build, head, body, sum_):
    library = build(f"{head}\n{{\n    {body}\n}}\n")
    assert ask(library, iov=1, iov_cnt=10, total_size=100, errp=1000, vbasedev=10000, res=100000) == (1, sum_)


ODD_NAMES = [
    "static int call(void) { return 1; }\nstatic int entry, mapped, address, result;",
    "#define mapped oops(\n#define address 3\n#define iov_cnt )\n#define total_size {\n#define res }",
    "#define vfio_verify_given 1\n#define vfio_verify_answer 2\n#define vv_call 3",
]


@pytest.mark.parametrize("before", ODD_NAMES)
def test_names_and_macros_of_the_subject_do_not_touch_the_entry(build, before):
    uses = " ".join(re.findall(r"(?<=#define )\w+", before))
    text = f"{before}\n{BOOL}\n{{\n#ifdef NEVER\n    {uses} call entry mapped address result\n#endif\n    *addr = (void *)64;\n    return true;\n}}\n"
    assert ask(build(text)) == (1, 64)


@pytest.mark.parametrize("macro", ["#define subject(a, b, c, d, e) false", "#define subject 1"])
def test_a_macro_of_the_functions_own_name_does_not_hide_it(build, macro):
    helper = f"{macro}\nstatic bool unused(void) {{ return subject; }}\n"
    text = f"{BOOL}\n{{\n    *addr = (void *)64;\n    return true;\n}}\n{helper}"
    assert ask(build(text)) == (1, 64)


def test_a_function_under_a_condition_is_compiled(build):
    text = f"#if defined(CONFIG_A) && defined CONFIG_B\n{POINTER}\n{{\n    return (void *)64;\n}}\n#endif\n"
    assert ask(build(text)) == (1, 64)


def test_a_condition_that_cannot_be_met_is_told(build):
    text = f"#if __STDC_VERSION__ < 199901L\n{POINTER}\n{{\n    return (void *)64;\n}}\n#endif\n"
    with pytest.raises(InputError, match=r"its #if leaves it out"):
        build(text)


def test_helpers_of_two_files_keep_their_own_statics(tmp_path):
    """One unit, yet each file's static is its own."""

    def added(path: str, text: str) -> str:
        lines = text.split("\n")
        return f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)

    one = "static int helper(void) { return 1; }\nint first(void) { return helper(); }"
    two = f"int first(void);\nstatic int helper(void) {{ return 2; }}\n{POINTER} {{ return (void *)(uintptr_t)(10 * helper() + first()); }}"
    (tmp_path / "x.diff").write_text(added("a.c", one) + added("b.c", two))
    assert ask(compiler.build(read_source(str(tmp_path / "x.diff")), tmp_path).path) == (1, 21)


# ---- flags ---------------------------------------------------------------------------------------------


def test_every_call_of_the_world_is_wrapped(build):
    """Called by name only, so that each is an undefined symbol of the library."""
    # The compiler may give assert() and the like no plain name, so the address of each is taken.
    table = ", ".join(f"(void *){name}" for name in compiler.WRAPPED)
    extra = (
        "#include <sys/shm.h>\n#include <malloc.h>\n#include <assert.h>\n#include <fcntl.h>\n#include <sys/mman.h>\n"
    )
    library = build(f"{extra}static void *table[] = {{ {table} }};\n{POINTER}\n{{\n    return table[n];\n}}\n")
    found = symbols(library)
    for name in compiler.WRAPPED:
        assert f"__wrap_{name}" in found
        assert name not in found


def test_an_allocation_that_could_be_optimised_away_is_made(build):
    library = build(
        f'{POINTER}\n{{\n    free(malloc(8));\n    char *s = strdup("x");\n    free(s);\n    return NULL;\n}}\n'
    )
    assert {"__wrap_malloc", "__wrap_free", "__wrap_strdup"} <= symbols(library)


def test_a_variable_never_set_is_the_same_each_time(build):
    library = build(f"{POINTER}\n{{\n    void *never_set;\n    return never_set;\n}}\n")
    answers = {ask(library) for _ in range(3)}
    assert len(answers) == 1
    assert answers != {(0, None)}


def test_a_write_through_null_is_not_optimised_away(build):
    library = build(f"{BOOL}\n{{ *(volatile int *)0 = 1; return false; }}\n")
    with Worker(library) as worker:
        (seen,) = worker.run(Case((), (), (), 0))
    assert seen.death is not None
    assert (seen.death.signal, seen.death.note) == (signal.SIGSEGV, "at NULL")


def test_tracepoints_need_no_definition(build):
    assert build(f'{BOOL}\n{{ trace_vfio_dmabuf("name", n, total); return false; }}\n')


def test_signed_overflow_wraps_as_in_qemu(build):
    library = build(f"{POINTER}\n{{\n    int i = n;\n    return i + 1 < i ? (void *)64 : NULL;\n}}\n")
    assert ask(library, iov_cnt=2**31 - 1) == (1, 64)


def test_a_pointer_of_another_type_is_no_reason_to_refuse(build):
    assert ask(build(f"struct odd;\n{POINTER}\n{{\n    struct odd *o = iov;\n    return o;\n}}\n"), iov=64) == (1, 64)


def test_what_the_compiler_warns_of_in_the_function_is_told(tmp_path):
    path = tmp_path / "x.c"
    path.write_text(
        f"int other(int n)\n{{\n    int unused_elsewhere;\n    return n;\n}}\n{POINTER}\n{{\n    int unused;\n"
        "    for (int i = 0; i < n; i++) {\n        other(i);\n    }\n    return NULL;\n}\n"
    )
    warnings = compiler.build(read_source(str(path), "subject"), tmp_path).warnings
    assert warnings[0] == f"{path}:8: the compiler warns: unused variable 'unused'"
    assert not any("elsewhere" in one or "errp" in one for one in warnings)
    path.write_text(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    assert compiler.build(read_source(str(path), "subject"), tmp_path).warnings == ()


def test_what_is_defined_for_the_compiler_counts(tmp_path):
    path = tmp_path / "x.c"
    path.write_text(
        f"{POINTER}\n{{\n#ifdef CONFIG_OWN\n    return (void *)(uintptr_t)OWN_VALUE;\n#else\n    return NULL;\n#endif\n}}\n"
    )

    def answer(*defines: str) -> tuple[int, int | None]:
        directory = tmp_path / "-".join(("out", *defines))
        directory.mkdir()
        return ask(compiler.build(read_source(str(path), "subject", given=Given(defines=defines)), directory).path)

    assert answer() == (0, None)
    assert answer("CONFIG_OWN", "OWN_VALUE=32 + 32") == (1, 64)
    for bad in ("1X", "X Y", "-DX", "X\n"):
        with pytest.raises(InputError, match="write NAME or NAME=VALUE"):
            Given(defines=(bad,))


# ---- what does not compile -------------------------------------------------------------------------------

UNKNOWN = {
    "function": ("    return not_in_qemu(iov);", "not_in_qemu", 4),
    "variable": ("    return not_in_qemu;", "not_in_qemu", 4),
    "type": ("    NotInQemu *x = NULL;\n    return x;", "NotInQemu", 4),
    "struct": ("    struct not_in_qemu x;\n    return &x;", "not_in_qemu", None),
    "field": (
        "    VFIODevice *v = NULL;\n    v->not_in_qemu = 1;\n    return v;",
        "VFIODevice.not_in_qemu",
        5,
    ),
    "declared function": (
        "    int not_in_qemu(void);\n    return not_in_qemu() ? iov : NULL;",
        "not_in_qemu",
        4,
    ),
}


@pytest.mark.parametrize(
    "definition",
    [
        "static int {0}(void) {{ return 1; }}",
        "int {0}(void) {{ return 1; }}",
        "#define {0} 1",
        "#define {0}(a, b) ((a) + (b))",
        "typedef int {0};",
        "struct own_{0} {{ int a; }};\ntypedef struct own_{0} {0};",
        "enum own_{0} {{ {0} }};",
        "static int {0};",
    ],
)
def test_the_sources_may_define_every_name_of_the_world(build, definition):
    world = read_names()
    # A macro of QEMU's in a function's head is read as an attribute.
    claimed = world.identifiers if "(void)" in definition else world.declared
    names = sorted(claimed - {"virtio_gpu_simple_resource", "g_autofree"})
    use = "{0}(1, 2)" if "(a, b)" in definition else "sizeof({0})"
    text = "\n".join(definition.format(name) for name in names)
    uses = " + ".join(use.format(name) for name in names)
    build(f"{text}\n{RESOURCE}\n{{\n    return (void *)(size_t)({uses});\n}}\n")


def test_a_refusal_has_the_name_that_the_source_gives(build):
    """Not the one that the world's own gets."""
    text = "struct mine { int a; };\ntypedef struct mine RAMBlock;\n" + BOOL
    with pytest.raises(
        InputError, match=r"'struct RAMBlock' has no member named 'nothing'|no member.*'struct RAMBlock'"
    ):
        build(text + "{ RAMBlock b; return qemu_ram_block_from_host(&b, 0, 0)->nothing; }")


def test_a_field_that_the_subjects_own_struct_lacks_is_an_error_in_the_subject(build):
    with pytest.raises(InputError, match="does not compile"):
        build(f"struct own {{ int a; }};\n{POINTER}\n{{\n    struct own o;\n    return (void *)o.b;\n}}\n")


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_the_world_does_not_know_is_told_with_its_line(build, name):
    body, unknown, line = UNKNOWN[name]
    with pytest.raises(InputError) as caught:
        build(f"\n{POINTER}\n{{\n{body}\n}}\n")
    message = str(caught.value)
    if line is None:
        assert "subject file.c:4" in message
    else:
        assert re.search(rf"the world does not know `{unknown}` \(\S.*subject file.c:{line}\)", message)
        assert "open an issue" in message


def test_a_prototype_without_a_definition_is_told_where_it_is_called(build):
    with pytest.raises(InputError, match=r"does not know `nowhere` \(.*subject file.c:5\)"):
        build(f"int nowhere(int);\n\n{POINTER}\n{{\n    return nowhere(1) ? iov : NULL;\n}}\n")


def test_errors_are_told_with_the_users_file_and_line(build):
    with pytest.raises(InputError) as caught:
        build(f"\n\n{POINTER}\n{{\n    return 1 +;\n}}\n")
    assert re.search(
        r"subject\(\) does not compile:\n  \S.*subject file.c:5:\d+: .*expected expression", str(caught.value)
    )


def test_the_first_error_is_shown_with_its_line_and_a_mark_below_it(build):
    with pytest.raises(InputError) as caught:
        build(f"{POINTER}\n{{\n    int a = 1 + ;\n    int b = 2 + ;\n    return NULL;\n}}\n")
    first, line, mark, second = str(caught.value).splitlines()[1:]
    column = int(re.search(r"file.c:3:(\d+): ", first)[1])
    assert line == "        int a = 1 + ;"
    assert mark == " " * (4 + column - 1) + "^"
    assert "file.c:4:" in second


LOST = {
    "in a declaration": "    int a = 1\n    void *never = NULL;\n    return never + a;",
    "after a call": "    int a = 0;\n    a = 1\n    void *never = NULL;\n    return never + a;",
}


@pytest.mark.parametrize("name", LOST)
def test_a_missing_semicolon_is_a_syntax_error_and_not_an_unknown_name(build, name):
    with pytest.raises(InputError, match=r"does not compile:\n.*expected") as caught:
        build(f"{POINTER}\n{{\n{LOST[name]}\n}}\n")
    assert "does not know" not in str(caught.value)


def test_an_unknown_macro_is_told_although_it_makes_a_syntax_error_too(build):
    with pytest.raises(InputError, match="does not know `FOREACH_THING`"):
        build(f"{POINTER}\n{{\n    FOREACH_THING(iov) {{\n        n++;\n    }}\n    return NULL;\n}}\n")


def test_a_header_that_is_nowhere_is_named_if_a_name_is_unknown(build):
    text = f'#include "own.h"\n#include <vfio-verify-nowhere.h>\n{POINTER}\n{{\n    return own(iov);\n}}\n'
    with pytest.raises(InputError, match=r'Not found: "own.h", <vfio-verify-nowhere.h>\. -I DIR'):
        build(text)


@pytest.mark.not_under_asan("its runtime is found by the environment")
def test_a_compiler_is_found_without_any_environment(tmp_path):
    path = tmp_path / "x.c"
    path.write_text(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    script = (
        "import sys, pathlib; from vfio_verify.subject import compiler, source; "
        "print(compiler.build(source.read_source(sys.argv[1]), pathlib.Path(sys.argv[2])).path)"
    )
    command = [sys.executable, "-P", "-c", script, str(path), str(tmp_path)]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path}/subject.so\n", done.stderr


def test_a_text_that_speaks_of_a_full_disk_is_not_taken_for_one(build):
    with pytest.raises(InputError, match=r"does not compile:\n.*subject file.c:5:\d+: .*expected expression"):
        build(f"{POINTER}\n{{\n#warning No space left on device\n\n    return 1 +;\n}}\n")


def test_only_a_handful_of_errors_is_shown(build):
    with pytest.raises(InputError, match=r"and [0-9]+ more") as caught:
        build(f"{POINTER}\n{{\n" + "    1 +;\n" * 15 + "    return NULL;\n}\n")
    assert len(str(caught.value).splitlines()) == 9


REFUSED = {
    "pointer from an integer": "    char *p = n;\n    return p;",
    "type left out": "    static x = 1;\n    return NULL;",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_qemu_build_lets_pass_is_refused(build, name):
    with pytest.raises(InputError, match="does not compile"):
        build(f"{POINTER}\n{{\n{REFUSED[name]}\n}}\n")


def test_without_a_compiler_the_remedy_is_named(build, monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"tried cc, gcc, clang\).*apt-get install gcc libc6-dev"):
        build(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    monkeypatch.setenv("CC", "my-cc -m64")
    with pytest.raises(InputError, match=r"CC names my-cc\)"):
        build(f"{POINTER}\n{{\n    return NULL;\n}}\n")


def test_the_compiler_named_by_cc_is_used(build, monkeypatch, tmp_path):
    """With its own arguments."""
    real = shutil.which("cc") or shutil.which("gcc")
    wrapper = tmp_path / "my cc"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> "$TMPDIR/used"\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", f"'{wrapper}' -DFROM_CC=64")
    assert ask(build(f"{POINTER}\n{{\n    return (void *)FROM_CC;\n}}\n")) == (1, 64)
    assert set((tmp_path / "build/used").read_text().split()) == {"-DFROM_CC=64"}


def test_a_compiler_that_does_not_end_is_ended(build, monkeypatch, tmp_path):
    """Its children too."""
    wrapper = tmp_path / "slow"
    wrapper.write_text('#!/bin/sh\nsleep 300 &\necho $! > "$TMPDIR/child"\nwait\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", str(wrapper))
    monkeypatch.setattr(driver, "TIME_LIMIT", 1.0)
    began = time.monotonic()
    with pytest.raises(InputError, match="did not finish within 1 seconds"):
        build(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    assert time.monotonic() - began < 20
    child = Path("/proc", (tmp_path / "build/child").read_text().strip(), "stat")
    for _ in range(50):
        if not child.exists() or child.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the compiler's child lives on")


def test_of_compilers_that_were_asked_for_flags_none_is_left_when_they_are_known(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "_flags_of", {})
    before = descendants(os.getpid()), set(os.listdir("/proc/self/fd"))
    with driver.flags_asked(tmp_path, SandboxFeature.ALL) as flags:
        assert flags is not None
        assert "-fsanitize-coverage=trace-pc" in flags.known()
        assert (descendants(os.getpid()), set(os.listdir("/proc/self/fd"))) == before


def test_a_compiler_that_dies_is_told(build, monkeypatch, tmp_path):
    wrapper = tmp_path / "broken"
    wrapper.write_text("#!/bin/sh\necho it broke\nexit 3\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", str(wrapper))
    with pytest.raises(InputError, match=r"the C compiler failed \(status 3\): it broke"):
        build(f"{POINTER}\n{{\n    return NULL;\n}}\n")


def test_nothing_is_written_outside_the_directory(build, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setenv("DEPENDENCIES_OUTPUT", str(elsewhere / "deps"))
    build(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    assert list(elsewhere.iterdir()) == []
    assert set(os.listdir(tmp_path)) == {"build", "elsewhere", "subject file.c"}


def test_an_old_library_does_not_survive_a_failed_build(build):
    library = build(f"{POINTER}\n{{\n    return NULL;\n}}\n")
    with pytest.raises(InputError):
        build(f"{POINTER}\n{{\n    return 1 +;\n}}\n")
    assert not library.exists()


@pytest.mark.skipif(not shutil.which("clang") and not shutil.which("clang-14"), reason="needs clang")
def test_clang_compiles_and_complains_as_well(build, monkeypatch):
    monkeypatch.setenv("CC", shutil.which("clang") or shutil.which("clang-14") or "")
    assert ask(build(f"{POINTER}\n{{\n    return (void *)64;\n}}\n")) == (1, 64)
    with pytest.raises(InputError, match="does not know `not_in_qemu`"):
        build(f"{POINTER}\n{{\n    return not_in_qemu(iov);\n}}\n")
    with pytest.raises(InputError, match="does not know `NotInQemu`"):
        build(f"{POINTER}\n{{\n    NotInQemu *x;\n    return x;\n}}\n")
