"""The worker: whatever a subject does to its process, the parent gets an observation or a HarnessError, and goes on."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest
from one_worker import CASE, compiled, is_right, open_fds
from subject_files import needs_compiler
from waiting import descendants

from vfio_verify.errors import HarnessError, InputError
from vfio_verify.judge import judge
from vfio_verify.values.case import PAGE, Case, Fault, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import ASSERTION, ERROR_SET_TWICE
from vfio_verify.worker import native
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.usage import processes
from vfio_verify.worker.worker import Worker

# What a total of 1, 2, 3... makes the subject do; with any other total it maps as it should.
DEEDS = {
    "crash": "*(volatile int *)8 = 1;",
    "crash in the iovec's guard page": "(void)*(volatile char *)&call->iov[call->iov_cnt];",
    "bus error": "{ char *m = mmap(NULL, P, PROT_READ, MAP_SHARED, empty(), 0); (void)*(volatile char *)m; }",
    "jump nowhere": "((void (*)(void))0x10)();",
    "stack overflow": "call->mapped = (int)deep((long)call);",
    "abort": "abort();",
    "failed assertion": 'assert(!"this");',
    "exit": "exit(7);",
    "exit behind the linker's back": "leave(7);",
    "raise SIGKILL": "raise(SIGKILL);",
    "raise a signal without a name": "signal(SIGRTMIN + 1, SIG_DFL); raise(SIGRTMIN + 1);",
    "kill its process group": "kill(0, SIGTERM);",
    "hang": "for (;;) { pause(); }",
    "hang under a name that is no text": r'prctl(PR_SET_NAME, "\xff) \xfe"); for (;;) { pause(); }',
    "hang and block signals": "{ sigset_t all; sigfillset(&all); sigprocmask(0, &all, NULL); for (;;) { } }",
    "stop itself": "raise(SIGSTOP);",
    "error set twice": 'error_setg(call->errp, "one"); error_setg(call->errp, "two");',
    "write through the reply memory": "scribble(0xa5);",
    "write zeros through the reply memory": "scribble(0);",
    "write ones through the reply memory": "scribble(0xff);",
    "scribble and crash": "scribble(0xa5); *(volatile int *)8 = 1;",
    "scribble ones and crash": "scribble(0xff); *(volatile int *)8 = 1;",
    "scribble small numbers and crash": "scribble(0x01); *(volatile int *)8 = 1;",
    "write garbage into the sockets": "babble();",
    "close every descriptor": "close_range(3, ~0u, 0);",
    "a child that lives on": "if (fork() == 0) { for (;;) { pause(); } }",
    "a child that lives on in a session of its own": "if (fork() == 0) { setsid(); pause(); } usleep(50000);",
    "a child that returns": "fork();",
    "a thread that lives on": "pthread_create(&thread, NULL, forever, NULL);",
    "handlers for every signal": "for (int s = 1; s < 32; s++) { signal(s, SIG_IGN); } *(volatile int *)8 = 1;",
    "an alarm": "alarm(1); for (;;) { pause(); }",
    "longjmp away": "{ jmp_buf away; memset(away, 0x11, sizeof(away)); longjmp(away, 1); }",
    "limits": "{ struct rlimit none = {0}; setrlimit(RLIMIT_AS, &none); setrlimit(RLIMIT_NOFILE, &none); }",
    "another directory": 'if (chdir("/")) { }',
}
SOURCE = (
    r"""
#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"
#define P 4096ul

static pthread_t thread;
static void *forever(void *unused) { for (;;) { pause(); } return unused; }
static int empty(void) { return memfd_create("empty", 0); }
static long deep(long n) { volatile char room[4096]; room[n % 4096] = 1; return deep(n + 1) + room[n % 7]; }
static void leave(int status) { ((void (*)(int))dlsym(RTLD_DEFAULT, "_exit"))(status); }

/* Over all that is shared with the parent, but for the page that holds the progress. */
static void scribble(int byte)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    char line[512];

    munmap(mmap(NULL, P, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), P);     /* something to scribble over */
    while (fgets(line, sizeof(line), maps)) {
        if (strstr(line, "/memfd:vfio-verify") && sscanf(line, "%lx-%lx", &start, &end) == 2 && end - start > 1 << 20) {
            memset((char *)start + 4096, byte, end - start - 4096);
            break;
        }
    }
    fclose(maps);
}

static void babble(void)
{
    for (int fd = 3; fd < 64; fd++) {
        int type;
        socklen_t size = sizeof(type);
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
            (void)!write(fd, "garbage!", 8);
        }
    }
}

static void map(struct vv_call *call)
{
    char *a = mmap(NULL, call->total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *at = a;

    for (unsigned i = 0; i < call->iov_cnt; i++) {
        ram_addr_t offset;
        qemu_ram_block_from_host(call->iov[i].iov_base, false, &offset);
        if (mmap(at, call->iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, offset)
            == MAP_FAILED) {
            error_setg(call->errp, "cannot map");
            munmap(a, call->total_size);
            return;
        }
        at += call->iov[i].iov_len;
    }
    call->mapped = 1;
    call->address = a;
}

void vfio_verify_entry(struct vv_call *call)
{
    switch (call->total_size) {
"""
    + "".join(f"    case {i}: {text} break;\n" for i, text in enumerate(DEEDS.values(), 1))
    + r"""
    default: map(call); return;
    }
    error_setg(call->errp, "done");
}
"""
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("subject"), SOURCE)


@pytest.fixture(scope="module")
def worker(library):
    with Worker(library, cpu_seconds=0.2, sleep_seconds=0.4) as worker:
        yield worker


def doing(deed: str) -> Case:
    return msgspec.structs.replace(CASE, total_size=list(DEEDS).index(deed) + 1)


def in_time(function, seconds: float = 20.0):
    """The result of a call that must not hang: a test that waits for ever says nothing."""
    answer = []

    def ask() -> None:
        try:
            answer.append((function(), None))
        except BaseException as error:  # noqa: BLE001  # handed to the test
            answer.append((None, error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"no answer within {seconds} seconds"
    result, error = answer[0]
    if error is not None:
        raise error
    return result


# ---- each end is told --------------------------------------------------------------------------------------

SIGNALS = {"SIGABRT": 6, "SIGBUS": 7, "SIGKILL": 9, "SIGSEGV": 11, "SIGTERM": 15, "SIGALRM": 14}


@needs_compiler
@pytest.mark.parametrize(
    ("deed", "how", "signal", "note"),
    [
        ("crash", "signal", "SIGSEGV", "at NULL + 0x8"),
        ("crash in the iovec's guard page", "signal", "SIGSEGV", "just past the end of the iovec"),
        ("bus error", "signal", "SIGBUS", "elsewhere"),
        ("jump nowhere", "signal", "SIGSEGV", "at NULL + 0x10"),
        ("stack overflow", "signal", "SIGSEGV", ""),
        ("abort", "abort", "SIGABRT", "called abort()"),
        ("failed assertion", "abort", "SIGABRT", "assertion"),
        ("exit", "abort", "SIGABRT", "called exit(7)"),
        ("exit behind the linker's back", "exit", None, ""),
        ("raise SIGKILL", "signal", "SIGKILL", ""),
        ("raise a signal without a name", "signal", None, ""),
        ("kill its process group", "signal", "SIGTERM", ""),
        ("hang", "hang", None, ""),
        ("hang under a name that is no text", "hang", None, ""),
        ("hang and block signals", "hang", None, ""),
        ("stop itself", "stop", None, ""),
        ("error set twice", "abort", "SIGABRT", "an error was set twice"),
        ("handlers for every signal", "signal", "SIGSEGV", ""),
        ("scribble and crash", "signal", "SIGSEGV", ""),
        ("scribble ones and crash", "signal", "SIGSEGV", ""),
        ("scribble small numbers and crash", "signal", "SIGSEGV", ""),
    ],
)
def test_a_death_is_told_for_what_it_is_and_the_next_case_is_judged_as_if_nothing_had_been(
    worker, deed, how, signal, note
):
    (seen,) = in_time(lambda: worker.run(doing(deed)))
    assert seen.death is not None
    assert seen.death.how == how
    if signal is not None:
        assert seen.death.signal == SIGNALS[signal]
    assert note in seen.death.note
    assert seen.death.code == {"failed assertion": ASSERTION, "error set twice": ERROR_SET_TWICE}.get(deed, "")
    case = doing(deed)
    assert "SURVIVES" in {clause for v in judge(case, expect(case), seen).violations for clause in v.clauses}
    (after,) = in_time(lambda: worker.run(CASE))
    assert is_right(after)


@needs_compiler
def test_the_status_of_an_exit_is_told(worker):
    (seen,) = worker.run(doing("exit behind the linker's back"))
    assert seen.death is not None
    assert seen.death.status == 7


@needs_compiler
@pytest.mark.parametrize(
    "deed",
    [
        *("write through the reply memory", "write zeros through the reply memory"),
        *("write ones through the reply memory", "write garbage into the sockets", "close every descriptor"),
        *("a child that lives on", "a child that returns", "a thread that lives on", "limits", "another directory"),
    ],
)
def test_whatever_a_subject_does_there_is_an_answer_and_the_next_case_is_judged_as_if_nothing_had_been(library, deed):
    with Worker(library, cpu_seconds=0.2, sleep_seconds=0.4) as worker:
        try:
            seen = in_time(lambda: worker.run(doing(deed)))
        except HarnessError:
            seen = []
        for what in seen:
            judge(doing(deed), expect(doing(deed)), what)
        in_time(worker.renew)
        for _ in range(3):
            (after,) = in_time(lambda: worker.run(CASE))
            assert is_right(after)


@needs_compiler
@pytest.mark.parametrize("byte", ["through", "zeros through", "ones through"])
def test_a_damaged_reply_is_the_subjects_doing(library, byte):
    """SURVIVES: each of several runs is asked for again by itself, and each is told."""
    deed = doing(f"write {byte} the reply memory")
    with Worker(library) as worker:
        seen = in_time(lambda: worker.run(deed, [()] * 2))
        assert [s.death is not None and s.death.how for s in seen] == ["damage"] * 2
        (after,) = in_time(lambda: worker.run(CASE))
        assert is_right(after)


@needs_compiler
def test_a_child_that_returns_does_not_answer_in_its_parents_place(library):
    """Two processes in one request: each case still gets its own answer."""
    cases = [msgspec.structs.replace(CASE, iovec=(Segment(0, i * PAGE, PAGE),), total_size=PAGE) for i in range(1, 6)]
    with Worker(library, sleep_seconds=1.0, parts=SandboxFeature.NONE) as worker:  # the sandbox refuses children
        in_time(lambda: worker.run(doing("a child that returns")))
        for case in cases:
            (seen,) = in_time(lambda case=case: worker.run(case))
            assert [run.offset for run in seen.runs] == [case.iovec[0].offset]


# ---- many plans, some of which die -------------------------------------------------------------------------

DIES_ON_ERROR = SOURCE.replace('error_setg(call->errp, "cannot map");', "abort();")


@needs_compiler
def test_every_plan_gets_its_own_observation_though_some_runs_die(tmp_path):
    plans = [(), (Fault("mmap", 2),), (Fault("mmap", 9),), (Fault("mmap", 3, when="late"),), ()]
    with Worker(compiled(tmp_path, DIES_ON_ERROR)) as worker:
        seen = in_time(lambda: worker.run(CASE, plans))
        assert [s.death is not None for s in seen] == [False, True, False, True, False]
        assert worker.restarts == 2
        assert seen[3].count("mmap") == 3
        assert [event.errno for event in seen[3].trace()][-1] == 22


@needs_compiler
def test_the_history_tells_the_calls_of_the_present_process(worker):
    worker.renew()
    assert worker.history == []
    faulty = CASE.with_faults(Fault("mmap", 1))
    worker.run(CASE)
    worker.run(faulty)
    assert worker.history == [CASE, faulty]
    ((case, seen, past),) = in_time(lambda: worker.runs(doing("crash")))
    assert case == doing("crash")
    assert seen.death is not None
    assert past.cases() == (CASE, faulty)
    assert worker.history == []
    worker.run(CASE)
    assert past.cases() == (CASE, faulty)


@needs_compiler
def test_each_run_knows_the_calls_before_it_in_its_own_process(tmp_path):
    with Worker(compiled(tmp_path, DIES_ON_ERROR)) as worker:
        dies, late = (Fault("mmap", 2),), (Fault("mmap", 3, when="late"),)
        ran = in_time(lambda: worker.runs(CASE, [(), dies, (), (), late, ()]))
        before = [tuple(call.fault_plan for call in one.past.cases()) for one in ran]
        assert [one.case.fault_plan for one in ran] == [(), dies, (), (), late, ()]
        assert before == [(), ((),), (), ((),), ((), ()), ()]
        assert [one.seen.death is not None for one in ran] == [False, True, False, False, True, False]


@needs_compiler
def test_earlier_calls_are_made_first(worker):
    worker.renew()
    worker.run(msgspec.structs.replace(CASE, earlier=(CASE.with_faults(Fault("mmap", 2)), CASE)))
    assert [call.fault_plan for call in worker.history] == [(Fault("mmap", 2),), (), ()]
    assert not any(call.earlier for call in worker.history)


# ---- subjects that do not load -----------------------------------------------------------------------------


@needs_compiler
def test_to_be_loaded_takes_as_long_when_calls_are_hurried(tmp_path):
    """A check was ended by a start that took half a second, where hangs had used up the patience for calls."""
    text = "__attribute__((constructor)) static void slowly(void) { usleep(600000); }"
    with Worker(
        compiled(tmp_path, f"#include <unistd.h>\n{text}\nvoid vfio_verify_entry(void *c) {{ (void)c; }}")
    ) as worker:
        worker.hurry(on=True)
        worker.renew()
        (seen,) = worker.run(CASE)
    assert seen.death is None


@pytest.mark.parametrize("content", [None, b"", b"not a library"])
def test_a_file_that_is_no_library_is_an_input_error_that_names_it(tmp_path, content):
    path = tmp_path / "subject.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be loaded: .*subject\.so"):
        Worker(path)


@needs_compiler
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int other;", "vfio_verify_entry"),
        ("void nowhere(void); void vfio_verify_entry(void *c) { (void)c; nowhere(); }", "nowhere"),
        ("__attribute__((constructor)) static void f(void) { *(volatile int *)8 = 1; }", "SIGSEGV"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_an_input_error_that_says_why(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        Worker(compiled(tmp_path, text))


def test_a_library_that_cannot_be_loaded_leaves_nothing_behind(tmp_path):
    """Neither a process nor a descriptor; and no ResourceWarning, which here is an error."""
    (tmp_path / "subject.so").write_bytes(b"not a library")
    gc.collect()
    before = open_descriptors(), descendants(os.getpid())
    for _ in range(3):
        with pytest.raises(InputError):
            Worker(tmp_path / "subject.so")
    assert descendants(os.getpid()) <= before[1]
    assert open_descriptors() == before[0]


# ---- the next process gets ready ahead of time ------------------------------------------------------------------


def getting_ready(worker: Worker) -> int:
    """The process that waits until it is told to begin. Its parent made it when the first one ended, or when the one
    before it began, which may be at work."""
    end = time.monotonic() + 10
    while True:
        found = descendants(worker._process._parent.pid) - {worker._process.pid}
        if found or time.monotonic() > end:
            (pid,) = found
            return pid
        time.sleep(0.001)


@needs_compiler
def test_none_gets_ready_before_one_has_ended(library):
    with Worker(library) as worker:
        assert is_right(*worker.run(CASE))
        assert descendants(worker._process._parent.pid) == {worker._process.pid}


@needs_compiler
def test_a_process_that_somebody_ends_before_its_subject_is_loaded_is_replaced(library):
    with Worker(library) as worker:
        worker._process.end()
        for _ in range(5):
            os.kill(getting_ready(worker), signal.SIGKILL)
            worker.renew()
            assert is_right(*worker.run(CASE))
        assert worker.restarts == 5


@needs_compiler
@pytest.mark.parametrize(
    "deed",
    [
        "for (int fd = 3; fd < 1024; fd++) { fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND); }",
        "scribble(0x41);",
    ],
    ids=["changes its open files", "scribbles over what is shared"],
)
def test_the_process_at_work_and_the_one_that_waits_do_not_disturb_each_other(tmp_path, deed):
    """The next one has got ready before the subject goes on."""
    text = SOURCE.replace("#include <assert.h>", "#include <assert.h>\n#include <fcntl.h>").replace(
        "    default: map(call);",
        f"    case 1000: usleep(50000); {deed} *(volatile int *)8 = 1; break;\n    default: map(call); usleep(50000);",
    )
    with Worker(compiled(tmp_path, text)) as worker:
        worker.run(doing("crash"))
        for _ in range(3):
            assert is_right(*worker.run(CASE))
            waiting = getting_ready(worker)
            (seen,) = worker.run(msgspec.structs.replace(CASE, total_size=1000))
            assert seen.death is not None
            assert worker._process.pid == waiting


@needs_compiler
def test_each_process_has_the_same_descriptors(library):
    with Worker(library) as worker:
        first = open_fds(worker)
        for _ in range(8):
            worker.run(doing("crash"))
            assert open_fds(worker) == first
            getting_ready(worker)


@needs_compiler
def test_the_process_that_waits_ends_with_the_one_at_work(library):
    with Worker(library) as worker:
        worker.run(doing("crash"))
        pids = {worker._process.pid, getting_ready(worker)}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@needs_compiler
def test_what_is_said_to_a_process_that_has_ended_is_not_said_to_the_next(tmp_path):
    """Neither a request, nor that it may fork."""
    text = """
#include <dlfcn.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"

static bool forks;

__attribute__((constructor)) static void try_to(void)
{
    long (*raw)(long, ...) = (long (*)(long, ...))dlsym(RTLD_DEFAULT, "syscall");
    const pid_t child = raw(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    if (child == 0) {
        raw(SYS_exit_group, 0);
    }
    forks = child > 0 && waitpid(child, NULL, 0) == child;
}

void vfio_verify_entry(struct vv_call *call)
{
    error_setg(call->errp, forks ? "it forks" : "it does not fork");
}
"""
    with Worker(compiled(tmp_path, text)) as worker:
        worker._process.end()
        getting_ready(worker)
        worker._process.control.send(native.GRANT.pack(native.FORKED, 3))
        worker._process.data.send(native.LENGTH.pack(8))
        worker.renew()
        for _ in range(2):
            (seen,) = worker.run(CASE)
            assert (seen.death, seen.message) == (None, b"it does not fork")


# ---- nothing stays behind ----------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def running(library: Path) -> set[int]:
    """Processes that have a library mapped, whoever their parent is."""
    found = set()
    for process in processes():
        try:
            if str(library) in (process / "maps").read_text():
                found.add(int(process.name))
        except (OSError, ValueError):
            continue
    return found


def gone(library: Path, seconds: float = 2.0) -> bool:
    end = time.monotonic() + seconds
    while running(library) and time.monotonic() < end:
        time.sleep(0.01)
    return not running(library)


@pytest.fixture
def own_library(library, tmp_path):
    """A copy that no other worker has loaded."""
    return Path(shutil.copy(library, tmp_path / "own.so"))


@needs_compiler
@pytest.mark.parametrize("end", ["close", "close twice", "exception", "interrupt"])
def test_nothing_is_left_behind(own_library, tmp_path, monkeypatch, end):
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = open_descriptors(), descendants(os.getpid())
    try:
        with Worker(own_library, cpu_seconds=0.2, sleep_seconds=0.4) as worker:
            worker.run(CASE)
            worker.run(doing("crash"))
            assert len(running(own_library)) == 1
            if end == "exception":
                raise RuntimeError
            if end == "interrupt":
                raise KeyboardInterrupt
            if end == "close twice":
                worker.close()
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert gone(own_library)
    assert descendants(os.getpid()) == before[1]
    assert open_descriptors() == before[0]
    assert list(directory.iterdir()) == []


@needs_compiler
@pytest.mark.parametrize(
    "deed", ["a child that lives on", "a child that lives on in a session of its own", "a thread that lives on"]
)
def test_what_a_subject_started_ends_with_its_worker(own_library, deed):
    with Worker(own_library, cpu_seconds=0.2, sleep_seconds=0.4, parts=SandboxFeature.NONE) as worker:
        in_time(lambda: worker.run(doing(deed)))
    ended = gone(own_library)
    for pid in running(own_library):
        os.kill(pid, 9)  # so that a failure of this test leaves none either
    assert ended


@needs_compiler
def test_a_worker_ends_with_its_parent(own_library):
    """Even if the parent is killed and cannot close anything."""
    script = (
        "import os, sys, pathlib\nfrom vfio_verify.worker.worker import Worker\n"
        "worker = Worker(pathlib.Path(sys.argv[1]))\nprint('ready', flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(own_library)], capture_output=True, timeout=30, check=False
    )
    assert done.stdout == b"ready\n"
    assert done.returncode == -9
    assert gone(own_library)


def test_a_closed_worker_is_closed_for_good():
    worker = Worker()
    worker.close()
    worker.close()
    with pytest.raises((HarnessError, OSError, ValueError)):
        worker.run(CASE)


def test_no_secrets_reach_a_subjects_environment(monkeypatch):
    monkeypatch.setenv("VFIO_VERIFY_SECRET_TOKEN", "hush")
    before = descendants(os.getpid())
    with Worker():
        started = descendants(os.getpid()) - before
        assert len(started) == 2
        for pid in started:
            assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


@needs_compiler
def test_where_a_start_takes_long_a_call_may_too(monkeypatch, library):
    """Under emulation a correct call, in a process with 65,530 mappings, may take more than a second."""

    def seconds(start: float) -> float:
        monkeypatch.setattr("vfio_verify.worker.usage.used_seconds", lambda _: start)
        with Worker(library, cpu_seconds=0.2, sleep_seconds=0.4) as worker:
            started = time.monotonic()
            (seen,) = in_time(lambda: worker.run(doing("hang")))
            assert seen.death is not None
            assert seen.death.how == "hang"
            return time.monotonic() - started

    assert seconds(start=0.01) + 1 < seconds(start=0.08)
