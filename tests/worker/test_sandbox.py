"""The sandbox: hostile subjects and texts try to get out by each way, and what they aim at is not touched.

What is believed is what the test sees on its own side: a file, a listener, a process. Each way is also tried without
a sandbox, where it must succeed: an attempt that fails anyway would show nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from nobody import NOBODY, python_of_nobody
from one_worker import CASE, compiled, is_right
from places import TESTS
from short_checks import no_kernel_faults
from subject_files import needs_compiler

import vfio_verify
from vfio_verify import _world
from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.judge import judge
from vfio_verify.report.report import make_report
from vfio_verify.subject import compiler, driver
from vfio_verify.subject.source import read_source
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.values.model import expect
from vfio_verify.worker import sandbox
from vfio_verify.worker.sandbox import Confinement, SandboxFeature, landlock_version
from vfio_verify.worker.worker import Worker

SECRET = "correct-horse-battery-staple"
WITHOUT_LANDLOCK, WITHOUT_SECCOMP = (
    SandboxFeature.ALL & ~SandboxFeature.LANDLOCK,
    SandboxFeature.ALL & ~SandboxFeature.SECCOMP,
)

needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel lacks Landlock")
pytestmark = [needs_compiler, needs_landlock]

HEAD = r"""
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"

static char told[600];                          /* what the subject says of itself, as its error */
static long (*raw)(long, ...);                  /* syscall(), not the world's */

static void tell_file(const char *path)
{
    int fd = (int)raw(SYS_openat, AT_FDCWD, path, O_RDONLY);
    long got = fd < 0 ? -1 : raw(SYS_read, fd, told, sizeof(told) - 1);
    for (long i = 0; i < got; i++) {
        told[i] = told[i] ? told[i] : ' ';
    }
    raw(SYS_close, fd);
}

static void connect_to(int family, int type, const void *address, socklen_t size)
{
    int fd = (int)raw(SYS_socket, family, type, 0);
    raw(SYS_connect, fd, address, size);
    raw(SYS_write, fd, "got out", 7);
}

static void child(long pid)
{
    if (pid == 0) {
        raw(SYS_exit, 0);
    }
    if (pid > 0) {
        strcpy(told, "a child runs");
    }
}

static void deed(void)
{
    raw = (long (*)(long, ...))dlsym(RTLD_DEFAULT, "syscall");
"""
TAIL = r"""
}

void vfio_verify_entry(struct vv_call *call)
{
#ifndef AT_LOAD
    deed();
#endif
    error_setg(call->errp, "told: %s", told);
}

#ifdef AT_LOAD
__attribute__((constructor)) static void at_load(void) { deed(); }
#endif
"""

INET = "struct sockaddr_in to = {AF_INET, htons(%s), {htonl(INADDR_LOOPBACK)}};"
UNIX = 'struct sockaddr_un to = {AF_UNIX, "%s"};'

# What is tried, and the harm that is seen when nothing confines it.
WAYS = {
    "read a key": ('tell_file(HOME "/key");', "secret told"),
    "read a key by the root of the process": ('tell_file("/proc/self/root" HOME "/key");', "secret told"),
    "read a key by openat2": (
        (
            'struct { unsigned long a, b, c; } how = {0}; int fd = raw(437, AT_FDCWD, HOME "/key", &how, sizeof(how));'
            "raw(SYS_read, fd, told, 100);"
        ),
        "secret told",
    ),
    "read the environment of a process": ('tell_file("/proc/" PID "/environ");', "secret told"),
    "open the memory of a process": (
        'if (raw(SYS_openat, AT_FDCWD, "/proc/" PID "/mem", O_RDWR) >= 0) { strcpy(told, "opened"); }',
        "said: opened",
    ),
    "make a file": ('raw(SYS_openat, AT_FDCWD, HOME "/new", O_WRONLY | O_CREAT, 0600);', "new file"),
    "make a file where it stands": (
        'if (!chdir(HOME)) { raw(SYS_openat, AT_FDCWD, "new", O_WRONLY | O_CREAT, 0600); }',
        "new file",
    ),
    "make a file without a name": (
        'if (raw(SYS_openat, AT_FDCWD, HOME, O_RDWR | __O_TMPFILE, 0600) >= 0) { strcpy(told, "opened"); }',
        "said: opened",
    ),
    "make a directory": ('mkdir(HOME "/new", 0700);', "new file"),
    "make a FIFO": ('mknod(HOME "/new", S_IFIFO | 0600, 0);', "new file"),
    "make a link": ('symlink("victim", HOME "/new");', "new file"),
    "make a hard link": ('link(HOME "/victim", HOME "/new");', "new file"),
    "write a file": (
        'int fd = raw(SYS_openat, AT_FDCWD, HOME "/victim", O_WRONLY | O_APPEND); raw(SYS_write, fd, "x", 1);',
        "content",
    ),
    "truncate a file": ('truncate(HOME "/victim", 0);', "content"),
    "truncate a file as it is read": ('raw(SYS_openat, AT_FDCWD, HOME "/victim", O_RDONLY | O_TRUNC);', "content"),
    "remove a file": ('unlink(HOME "/victim");', "gone"),
    "rename a file": ('rename(HOME "/victim", HOME "/.moved");', "gone"),
    "change a mode": ('chmod(HOME "/victim", 0777);', "mode"),
    "change times": ('utimes(HOME "/victim", (struct timeval[2]){0});', "times"),
    "connect by TCP": (f"{INET % 'TCP'} connect_to(AF_INET, SOCK_STREAM, &to, sizeof(to));", "TCP"),
    "send by UDP": (f"{INET % 'UDP'} connect_to(AF_INET, SOCK_DGRAM, &to, sizeof(to));", "UDP"),
    "connect to an abstract socket": (
        (
            'struct sockaddr_un to = {AF_UNIX, "\\0" ABSTRACT};'
            "connect_to(AF_UNIX, SOCK_STREAM, &to, offsetof(struct sockaddr_un, sun_path) + sizeof(ABSTRACT));"
        ),
        "abstract",
    ),
    "connect to a socket by path": (
        'struct sockaddr_un to = {AF_UNIX, HOME "/socket"}; connect_to(AF_UNIX, SOCK_STREAM, &to, sizeof(to));',
        "unix",
    ),
    "send to a socket by path, from a pair": (
        (
            'struct sockaddr_un to = {AF_UNIX, HOME "/dgram"}; int pair[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);'
            "raw(SYS_sendto, pair[0], told, 1, 0, &to, sizeof(to));"
        ),
        "dgram",
    ),
    "send a message to a socket by path, from a pair": (
        (
            'struct sockaddr_un to = {AF_UNIX, HOME "/dgram"}; int pair[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);'
            'struct iovec one = {"x", 1}; struct msghdr message = {&to, sizeof(to), &one, 1};'
            "raw(SYS_sendmsg, pair[0], &message, 0);"
        ),
        "dgram",
    ),
    "fork": ("child(fork());", "said: a child runs"),
    "fork by its number": ("child(raw(SYS_clone, SIGCHLD, 0, 0, 0, 0));", "said: a child runs"),
    "a process that shares the memory": (
        (
            "static char stack[65536] __attribute__((aligned(16)));"
            "if (clone((int (*)(void *))_exit, stack + 65536, CLONE_VM | SIGCHLD, 0) > 0)"
            '{ strcpy(told, "a child runs"); }'
        ),
        "said: a child runs",
    ),
    "fork by clone3": (
        "unsigned long args[11] = {0}; args[4] = SIGCHLD; child(raw(435, args, sizeof(args)));",
        "said: a child runs",
    ),
    "execve": (
        (
            'char *const args[] = {"touch", HOME "/new", NULL}, *const env[] = {NULL};'
            'raw(SYS_execve, "/usr/bin/touch", args, env);'
        ),
        "new file",
    ),
    "system": ('system("touch " HOME "/new");', "new file"),
    "kill": ("raw(SYS_kill, atoi(PID), SIGKILL);", "killed"),
    "kill by tgkill": ("raw(SYS_tgkill, atoi(PID), atoi(PID), SIGKILL);", "killed"),
    "kill by a descriptor": ("raw(424, (int)raw(434, atoi(PID), 0), SIGKILL, 0, 0);", "killed"),
    "stop by ptrace": (
        'if (!raw(SYS_ptrace, PTRACE_SEIZE, atoi(PID), 0, 0)) { strcpy(told, "attached"); }',
        "said: attached",
    ),
    "read another's memory": (
        (
            "struct iovec to = {told + 100, 4}, from = {(void *)ADDRESS, 4};"
            'if (raw(SYS_process_vm_readv, atoi(PID), &to, 1, &from, 1, 0) == 4) { strcpy(told, "read"); }'
        ),
        "said: read",
    ),
    "lower another's limits": (
        "struct rlimit none = {0}; raw(SYS_prlimit64, atoi(PID), RLIMIT_AS, &none, NULL);",
        "limits",
    ),
    "open more than limits allow": (
        (
            "struct rlimit more = {2000, 2000}, is; setrlimit(RLIMIT_NOFILE, &more); getrlimit(RLIMIT_NOFILE, &is);"
            'if (is.rlim_cur > 1024) { strcpy(told, "raised"); }'
        ),
        "said: raised",
    ),
    "set priorities": ("raw(SYS_setpriority, PRIO_PROCESS, atoi(PID), 7);", "priority"),
    "outlive the parent": (
        'prctl(PR_SET_PDEATHSIG, 0); int is = 0; prctl(PR_GET_PDEATHSIG, &is); if (!is) { strcpy(told, "outlives"); }',
        "said: outlives",
    ),
    "x32 or 32-bit calls": (
        'if (raw(0x40000000 | 41, AF_INET, SOCK_STREAM, 0) >= 0) { strcpy(told, "a socket"); }',
        None,
    ),
    "unshare": ('if (!raw(SYS_unshare, CLONE_NEWUSER)) { strcpy(told, "unshared"); }', None),
    "mount": ('if (!mount("none", HOME, "tmpfs", 0, "")) { strcpy(told, "mounted"); }', None),
    "io_uring": ('char p[256] = {0}; if (raw(425, 4, p) >= 0) { strcpy(told, "a ring"); }', None),
    "keys": (
        'if (raw(SYS_add_key, "user", "vv", "x", 1, -2) >= 0) { strcpy(told, "a key"); }',
        None,
    ),
    "owner": ('raw(SYS_fchownat, AT_FDCWD, HOME "/victim", 12345, 12345, 0);', None),
    "attributes": ('setxattr(HOME "/victim", "user.vv", "x", 1, 0);', None),
}
AT_LOAD = ("read a key", "make a file", "connect by TCP", "fork", "kill", "execve")


class Victims:
    """What a subject could harm: a directory with a key and a file, listeners, and a process. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        (self.home / "key").write_text(SECRET)
        self.file = self.home / "victim"
        self.file.write_text("unharmed")
        self.abstract = f"vfio-verify-test-{os.getpid()}-{directory.name}"
        self._stack = contextlib.ExitStack()
        self._sockets = {
            "TCP": self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "UDP": self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "abstract": self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}"),
        }
        with contextlib.chdir(self.home):  # a path for a socket must be short
            self._sockets["unix"] = self._listen(socket.AF_UNIX, socket.SOCK_STREAM, "socket")
            self._sockets["dgram"] = self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, "dgram")
        self.process = subprocess.Popen(["sleep", "60"], env={"TOKEN": SECRET})
        maps = Path(f"/proc/{self.process.pid}/maps")
        while "sleep" not in maps.read_text():
            pass  # it is not executed yet
        self.address = int(maps.read_text().partition("-")[0], 16)
        self.look()

    def look(self) -> None:
        """Hold later harm against what is there now."""
        self._before = self._state()

    def _listen(self, family: int, kind: int, address: object) -> socket.socket:
        one = self._stack.enter_context(socket.socket(family, kind))
        one.bind(address)  # type: ignore[arg-type]
        one.setblocking(False)
        if kind == socket.SOCK_STREAM:
            one.listen()
        return one

    def defines(self) -> str:
        tcp, udp = (self._sockets[name].getsockname()[1] for name in ("TCP", "UDP"))
        return (
            f'#define HOME "{self.home}"\n#define PID "{self.process.pid}"\n#define TCP {tcp}\n#define UDP {udp}\n'
            f'#define ABSTRACT "{self.abstract}"\n#define ADDRESS {self.address:#x}\n'
        )

    def _state(self) -> dict[str, object]:
        state: dict[str, object] = {"files": sorted(set(os.listdir(self.home)) - {".moved"})}
        if self.file.exists():
            status = self.file.stat()
            state |= {"content": self.file.read_bytes(), "mode": status.st_mode, "times": status.st_mtime}
            state |= {"owner": (status.st_uid, status.st_gid), "xattr": os.listxattr(self.file)}
        if self.process.poll() is None:
            pid = self.process.pid
            state |= {"priority": os.getpriority(os.PRIO_PROCESS, pid)}
            state |= {"limits": Path(f"/proc/{pid}/limits").read_text()}
        return state

    def harm(self, said: str) -> set[str]:
        """What has changed since the beginning, and what reached a listener."""
        found = {name for name, one in self._sockets.items() if _heard(one)}
        before, now = self._before, self._state()
        if set(now["files"]) - set(before["files"]):  # type: ignore[call-overload]
            found.add("new file")
        if "content" not in now:
            found.add("gone")
        else:
            found |= {name for name in ("content", "mode", "owner", "xattr") if now[name] != before[name]}
            if now["times"] != before["times"] and "content" not in found:
                found.add("times")
        if "limits" not in now:
            found.add("killed")
        else:
            found |= {name for name in ("limits", "priority") if now[name] != before[name]}
        if SECRET in said:
            found.add("secret told")
        elif said:
            found.add(f"said: {said}")
        return found

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._stack.close()


def _heard(one: socket.socket) -> bool:
    try:
        if one.type == socket.SOCK_DGRAM:
            return bool(one.recv(16))
        one.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Victims]:
    with Victims(tmp_path) as victims:
        yield victims


def message_of(library: Path, parts: SandboxFeature) -> str:
    with Worker(library, parts=parts, sleep_seconds=5) as worker:
        (seen,) = worker.run(CASE)
    return seen.message.decode(errors="replace")


def attempt(
    victims: Victims,
    body: str,
    parts: SandboxFeature = SandboxFeature.ALL,
    *,
    at_load: bool = False,
    run: Callable[[Path, SandboxFeature], str] = message_of,
) -> set[str]:
    """Let a subject try, at each call or when it is loaded; the harm that is seen afterwards."""
    text = victims.defines() + ("#define AT_LOAD\n" if at_load else "") + HEAD + body + TAIL
    said = run(compiled(victims.home.parent, text), parts).removeprefix("told: ")
    with contextlib.suppress(subprocess.TimeoutExpired):
        victims.process.wait(0.05)  # a signal may be on its way
    return victims.harm(said)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_out(victims: Victims, way: str) -> None:
    assert attempt(victims, WAYS[way][0]) == set()


@pytest.mark.parametrize("way", AT_LOAD)
def test_no_way_leads_out_while_the_subject_is_loaded(victims: Victims, way: str) -> None:
    assert attempt(victims, WAYS[way][0], at_load=True) == set()


@pytest.mark.parametrize("way", [way for way, (_, harm) in WAYS.items() if harm])
def test_each_way_leads_out_without_a_sandbox(victims: Victims, way: str) -> None:
    """Or the tests above would show nothing."""
    body, harm = WAYS[way]
    assert attempt(victims, body, SandboxFeature.NONE) == {harm}


@pytest.mark.parametrize("way", WAYS)
def test_without_landlock_no_way_leads_out_but_reading(victims: Victims, way: str) -> None:
    """Nothing is written, nothing started, nothing sent: the list of system calls sees to that."""
    harm = attempt(victims, WAYS[way][0], WITHOUT_LANDLOCK)
    assert harm <= {"secret told"}
    assert not harm or way.startswith("read")


@pytest.mark.parametrize(
    "way", [*(way for way in WAYS if "file" in way or ("key" in way and way != "keys")), "connect by TCP", "kill"]
)
def test_without_seccomp_files_are_still_safe(victims: Victims, way: str) -> None:
    if way == "kill" and landlock_version() < 6:
        pytest.skip("this Landlock knows no signals")
    assert attempt(victims, WAYS[way][0], WITHOUT_SECCOMP) == set()


AS_NOBODY = """
import pathlib, sys
from vfio_verify.corpus.entry import read_entry
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Worker

with Worker(pathlib.Path(sys.argv[1]), parts=SandboxFeature(int(sys.argv[2]))) as worker:
    (seen,) = worker.run(read_entry(sys.argv[3].encode(), "").case)
    print(seen.message.decode(errors="replace"), *worker.confinement.notes())
"""


@pytest.fixture(scope="module")
def packages_for_all() -> Iterator[Path]:
    """What a worker imports, where every user gets to: a virtual environment may be in a directory of root's own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for package in (vfio_verify, msgspec):
            shutil.copytree(Path(package.__file__).parent, directory / package.__name__)
        directory.chmod(0o755)
        yield directory


@pytest.mark.not_under_asan("another Python runs it, without the sanitizers' runtime")
@pytest.mark.parametrize("way", ["read a key", "write a file", "change a mode", "fork", "send by UDP"])
def test_without_root_no_way_leads_out_either(packages_for_all: Path, way: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("all of this file is run without root")
    path = str(packages_for_all)
    python = python_of_nobody(path)
    if python is None:
        pytest.skip("no Python of this version with this package that another user can run")

    def run(library: Path, parts: SandboxFeature) -> str:
        command = [python, "-c", AS_NOBODY, str(library), str(int(parts)), CASE.to_json().decode()]
        return subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=library.parent,
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout.strip("\n")

    body, harm = WAYS[way]
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # nobody must get there
        with Victims(Path(directory)) as victims:
            for one in (victims.home, victims.file, victims.home / "key"):
                os.chown(one, NOBODY, NOBODY)
            victims.look()
            assert attempt(victims, body, run=run) == set()
            assert attempt(victims, body, SandboxFeature.NONE, run=run) == {harm}


# ---- limits ------------------------------------------------------------------------------------------------

HOGS = {
    "anonymous memory": (
        "for (;;) { char *m = mmap(NULL, 1 << 24, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); memset(m, 1, 1 << 24); }"
    ),
    "private memory by its number": (
        "for (;;) { char *m = (char *)raw(SYS_mmap, NULL, 1 << 24, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);"
        "memset(m, 1, 1 << 24); }"
    ),
    "a memfd that is not mapped": (
        "static char page[1 << 20]; int fd = memfd_create(page, 0);for (;;) { raw(SYS_write, fd, page, sizeof(page)); }"
    ),
    "memfds that are mapped, closed and not touched": (
        "static char page[1 << 20]; for (;;) { int fd = raw(SYS_memfd_create, page, 0);"
        "for (int i = 0; i < 64; i++) { raw(SYS_write, fd, page, sizeof(page)); }"
        "raw(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, fd, 0); raw(SYS_close, fd); }"
    ),
    "shared memory that is let go of": (
        "for (;;) { char *m = (char *)raw(SYS_mmap, NULL, 1 << 24, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
        "memset(m, 1, 1 << 24); raw(SYS_madvise, m, 1 << 24, MADV_DONTNEED); raw(SYS_munmap, m, (1 << 24) - 4096); }"
    ),
    "page tables": (
        "for (;;) { volatile char *m = (char *)raw(SYS_mmap, NULL, 1l << 38, PROT_READ,"
        "MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);"
        "for (long at = 0; at < 1l << 38; at += 2 << 20) { (void)m[at]; } }"
    ),
    "a device's memory": (
        "static char page[1 << 20]; for (long at = 0;; at += 1 << 20)"
        "{ raw(SYS_pwrite64, vfio_verify_device, page, sizeof(page), at); }"
    ),
}


@pytest.mark.parametrize("hog", HOGS)
def test_memory_without_end_is_ended_and_told(tmp_path: Path, hog: str) -> None:
    text = HEAD.replace("static void deed", "static int vfio_verify_device;\nstatic void deed") + HOGS[hog] + TAIL
    text = text.replace("    deed();\n#endif", "    vfio_verify_device = call->vbasedev->fd;\n    deed();\n#endif")
    with Worker(compiled(tmp_path, text), memory_bytes=256 << 20, cpu_seconds=10) as worker:
        (seen,) = worker.run(CASE)
        assert seen.death is not None
        assert seen.death.note == "takes more than 0.25 GiB of memory"
        said = {v.clause: v.summary for v in judge(CASE, expect(CASE), seen).violations}
        assert "takes more than 0.25 GiB of memory" in said["SURVIVES"]


def test_memory_kept_from_call_to_call_is_not_kept_for_ever(tmp_path: Path) -> None:
    """The process is replaced between two calls. What it keeps is its own variable: a descriptor is closed anyway."""
    text = (
        HEAD
        + "static char kept[600 << 20]; static size_t used;"
        + "memset(kept + used, 1, 90 << 20); used += 90 << 20; usleep(120000);"
        + TAIL
    )
    with Worker(compiled(tmp_path, text), memory_bytes=256 << 20) as worker:
        for _ in range(6):
            worker.run(CASE)
        assert worker.restarts >= 1


def test_threads_without_end_are_ended_and_told(tmp_path: Path) -> None:
    text = (
        "#include <unistd.h>\nstatic void *wait_here(void *p) { for (;;) { pause(); } return p; }\n"
        + HEAD
        + "pthread_attr_t small; pthread_t t; pthread_attr_init(&small); pthread_attr_setstacksize(&small, 65536);"
        "for (int i = 0; i < 400; i++) { pthread_create(&t, &small, wait_here, NULL); } sleep(3);" + TAIL
    )
    with Worker(compiled(tmp_path, text), sleep_seconds=5) as worker:
        (seen,) = worker.run(CASE)
    assert seen.death is not None
    assert seen.death.note == "starts more than 256 threads"


def test_some_threads_are_nothing_to_complain_of(tmp_path: Path) -> None:
    text = (
        "static void *answer(void *p) { return p; }\n"
        + HEAD
        + "pthread_t t[8]; void *got; int n = 0; long i;"
        + "for (i = 0; i < 8; i++) { pthread_create(&t[i], NULL, answer, (void *)i); }"
        + "for (i = 0; i < 8; i++) { pthread_join(t[i], &got); n += got == (void *)i; }"
        + 'sprintf(told, "%d", n);'
        + TAIL
    )
    with Worker(compiled(tmp_path, text)) as worker:
        (seen,) = worker.run(CASE)
    assert seen.message == b"told: 8"


def test_a_subject_may_look_at_its_own_process(tmp_path: Path) -> None:
    """Where its stack is, which libraries there are: the C library reads /proc/self/maps for it."""
    body = (
        'FILE *maps = fopen("/proc/self/maps", "r"); strcpy(told, maps && fgets(told + 9, 99, maps) ? "maps" : "none");'
    )
    with Worker(compiled(tmp_path, HEAD + body + TAIL)) as worker:
        for _ in range(3):
            (seen,) = worker.run(CASE)
            assert seen.message == b"told: maps"
            worker.renew()


# ---- what is said ------------------------------------------------------------------------------------------


def notes(**options: object) -> str:
    chosen = Options(examples=3, **options)  # type: ignore[arg-type]
    return "\n".join(note for note in make_report(CORE, chosen, check(CORE, chosen)).notes if "onfined" in note)


def test_a_whole_sandbox_is_nothing_to_mention() -> None:
    assert notes() == ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_missing_part_is_one_line_of_the_report(jobs: int) -> None:
    said = notes(lacking=SandboxFeature.LANDLOCK, jobs=jobs, seed=jobs)
    assert said.count("\n") == 0
    assert said.startswith(f"Not confined by Landlock: this kernel ({os.uname().release}) lacks it")
    assert "read what you can" in said
    said = notes(lacking=SandboxFeature.SECCOMP, jobs=jobs)
    assert said.startswith("Not confined by seccomp: ")
    assert "start processes" in said
    assert len(notes(lacking=SandboxFeature.SECCOMP | SandboxFeature.LANDLOCK).splitlines()) == 2


def test_the_reason_of_a_missing_part_is_told() -> None:
    assert "switched off" in Confinement(no_landlock=errno.EOPNOTSUPP).notes()[0]
    assert "Operation not permitted" in Confinement(no_seccomp=errno.EPERM).notes()[0]
    assert Confinement(landlock=7).notes() == ()


def test_no_sandbox_is_said_on_the_command_line_and_in_the_report() -> None:
    command = [sys.executable, "-P", "-m", "vfio_verify", "check", "core", "--examples", "3", "--json", "-"]
    done = subprocess.run([*command, "--no-sandbox"], capture_output=True, check=True, timeout=60)
    (note,) = [note for note in json.loads(done.stdout)["notes"] if "onfined" in note]
    assert note == "Not confined, as --no-sandbox asks: the compiler and the subject could do whatever you can."
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert not [note for note in json.loads(done.stdout)["notes"] if "onfined" in note]


# ---- verdicts ----------------------------------------------------------------------------------------------

CORRECT = (TESTS / "subjects/correct/check_first.c").read_text()
SNOOPS = r"""
#include <fcntl.h>
#include <unistd.h>
static int snoops(void)
{
    char key[8];
    int fd = open("KEY", O_RDONLY);
    int got = fd >= 0 && read(fd, key, sizeof(key)) > 0;
    if (fd >= 0) {
        close(fd);
    }
    return got;
}
"""


def snooping(directory: Path, then: str) -> Path:
    """A correct subject that first looks for a key, and does something if it could read it."""
    (directory / "key").write_text(SECRET)
    at = CORRECT.index("vfio_device_mmap_dmabuf(")
    start = CORRECT.rindex("\n", 0, CORRECT.rindex("\n", 0, at) + 1)
    brace = CORRECT.index("\n{\n", at) + 3
    text = CORRECT[:start] + SNOOPS.replace("KEY", str(directory / "key")) + CORRECT[start:brace]
    path = directory / "snoops.c"
    path.write_text(text + f"    if (snoops()) {{ {then} }}\n" + CORRECT[brace:])
    return path


@pytest.mark.parametrize("then", ["", "*(volatile int *)8 = 1;"])
def test_a_subject_that_snoops_is_judged_by_what_it_does(tmp_path: Path, then: str) -> None:
    path = snooping(tmp_path, then)
    with open_subject(str(path)) as subject:
        result = check(subject, Options(examples=30), why_no_kernel_fault=no_kernel_faults)
    assert [v.summary for v in result.confirmed if v.clause != "UNCHARGED"] == []
    with open_subject(str(path), None, SandboxFeature.NONE) as subject:
        result = check(subject, Options(examples=5, sandbox=False), why_no_kernel_fault=no_kernel_faults)
    assert ("SURVIVES" in {v.clause for v in result.confirmed}) == bool(then)


def test_a_confined_worker_still_maps_what_it_should(tmp_path: Path) -> None:
    for parts in (SandboxFeature.ALL, WITHOUT_LANDLOCK, WITHOUT_SECCOMP, SandboxFeature.NONE):
        with Worker(parts=parts) as worker:
            assert is_right(worker.run(CASE)[0])


# ---- compiling ---------------------------------------------------------------------------------------------

FUNCTION = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
BODY = f"{FUNCTION}\n{{\n    return false;\n}}\n"
TEXTS = {
    ".incbin in a function": (BODY.replace("return", '__asm__(".incbin \\"KEY\\"");\n    return'), "file not found: /"),
    ".include": (BODY.replace("return", '__asm__(".include \\"KEY\\"");\n    return'), "can't open"),
    "section": (
        '__attribute__((section(".data\\n.incbin \\"KEY\\"\\n#"))) int x = 1;\n'
        + BODY.replace("return", "x++; return"),
        "file not found: /",
    ),
    "#include in a function": (BODY.replace("return", '\n#include "KEY"\nreturn'), '#include "'),
    "#include by a macro": ('#define F "KEY"\n' + BODY.replace("return", "\n#include F\nreturn"), "Permission denied"),
    "#include <> in a function": (BODY.replace("return", "\n#include <KEY>\nreturn"), "Permission denied"),
    "#include on top": ('#include "KEY"\n' + BODY, '#include "'),
    "#include upwards": ('#include "../key"\n' + BODY, '#include "../key" is refused'),
    "#include of itself": (BODY.replace("return", "\n#include __FILE__\nreturn"), "Permission denied|too deep|nested"),
    "#include of itself by name": (
        BODY.replace("return", '\n#include "@subject.c"\nreturn'),
        "does not compile",
    ),
    "#include by a link": ('#include "link.h"\n' + BODY, '#include "link.h" is refused'),
    "#include of what is hidden": ('#include ".hidden.h"\n' + BODY, '#include ".hidden.h" is refused'),
    "#include of what is no source": ('#include "token"\n' + BODY, '#include "token" is refused'),
    "#include of a directory": ('#include "sub"\n' + BODY, '#include "sub" is refused'),
    "a huge array": (
        "static char huge[1ul << 40] = {1};\n" + BODY.replace("return", "iov->iov_base = huge; return"),
        "compiler failed|does not compile|without end",
    ),
    "words without end": (
        "#define A(x) x + x + x + x\n#define B(x) A(A(A(A(x))))\n" + BODY.replace("false", "B(B(B(B(n))))"),
        "compiler failed|does not compile|without end",
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a C file, beside files that are none of its business."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    directory = tmp_path / "@work"
    (directory / "sub").mkdir(parents=True)
    (directory / "link.h").symlink_to("../key")
    (directory / ".hidden.h").write_text(f"int {SECRET.replace('-', '_')};\n")
    (directory / "token").write_text(SECRET)
    return directory


def build(place: Path, text: str, parts: SandboxFeature = SandboxFeature.ALL) -> Path:
    path = place / "@subject.c"
    path.write_text(text.replace("KEY", str(place.parent / "key")))
    out = place / "@out"
    out.mkdir(exist_ok=True)
    return compiler.build(read_source(str(path), "subject", any_include=not parts), out, parts=parts).path


@pytest.mark.parametrize("parts", [SandboxFeature.ALL, WITHOUT_LANDLOCK], ids=["all", "without Landlock"])
@pytest.mark.parametrize("name", TEXTS)
def test_no_text_makes_the_compiler_read_what_is_not_its_business(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, parts: SandboxFeature
) -> None:
    monkeypatch.setattr(driver, "TIME_LIMIT", 10.0)
    monkeypatch.setattr(driver, "_MEMORY_LIMIT", 512 << 10)  # KiB, which words without end take soon
    text, said = TEXTS[name]
    if not parts & SandboxFeature.LANDLOCK:
        said = f"{said}|includes /|is refused"
    with pytest.raises(InputError, match=said) as error:
        build(place, text, parts)
    assert SECRET not in str(error.value)
    assert not (place / "@out/subject.so").exists()


@pytest.mark.parametrize("name", [".incbin in a function", "section"])
def test_without_a_sandbox_the_assembler_reads_the_key(place: Path, name: str) -> None:
    assert SECRET.encode() in build(place, TEXTS[name][0], SandboxFeature.NONE).read_bytes()
    with pytest.raises(InputError, match="--no-sandbox"):
        build(place, TEXTS[name][0])


def test_probing_for_a_file_tells_nothing(place: Path) -> None:
    """__has_include of a key that is there is as of one that is not."""
    probe = '\n#if __has_include("KEY")\n#error it is there\n#endif\nreturn'
    said = ""
    try:
        build(place, BODY.replace("return", probe))
    except InputError as error:
        said = str(error)
    assert "it is there" not in said
    with pytest.raises(InputError, match="it is there"):
        build(place, BODY.replace("return", probe), SandboxFeature.NONE)


def test_headers_and_tables_beside_the_file_are_read(place: Path) -> None:
    (place / "own.h").write_text("#define OWN 1\n")
    (place / "sub/table.inc").write_text('#include "more.h.inc"\n')
    (place / "sub/more.h.inc").write_text("4096, 8192\n")
    table = '#include "own.h"\nstatic long table[] = {\n#include "sub/table.inc"\n};\n'
    library = build(place, table + BODY.replace("return false", "return table[1] == 8192 && OWN"))
    ctypes.CDLL(_world.__file__, mode=ctypes.RTLD_GLOBAL)  # has what each block calls
    assert ctypes.CDLL(str(library)).vfio_verify_entry


def test_a_compiler_confined_cannot_write_or_connect(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a compiler is talked into."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        script = place.parent / "hostile"
        attack = (
            f"import pathlib, socket\n"
            f"for act in (lambda: pathlib.Path('{place.parent}/new').write_text('x'),\n"
            f"            lambda: socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}))):\n"
            f"    try:\n        act()\n    except OSError as error:\n        print('error:', error)\n"
        )
        (place / "@out").mkdir()
        (place / "@out/attack.py").write_text(attack)
        python = "/usr/bin/python3"
        if not os.path.exists(python):
            pytest.skip("needs a Python of the system's")
        script.write_text(f"#!/bin/sh\nexec {python} -I -S attack.py\n")
        script.chmod(0o755)
        monkeypatch.setenv("CC", str(script))
        with pytest.raises(InputError):
            build(place, BODY)
        assert not (place.parent / "new").exists()
        with pytest.raises(BlockingIOError):
            listener.accept()
        with pytest.raises(InputError):
            build(place, BODY, SandboxFeature.NONE)
        assert (place.parent / "new").exists()
        listener.accept()[0].close()


def test_this_process_stays_free(place: Path, tmp_path: Path) -> None:
    """The thread that starts the compiler confines itself alone."""
    now = Path("/proc/thread-self/status").read_text()
    before = [now.count(f"{name}:\t0\n") for name in ("NoNewPrivs", "Seccomp", "Seccomp_filters")]
    build(place, BODY)
    (tmp_path / "free").write_text("x")
    socket.create_server(("127.0.0.1", 0)).close()
    after = Path("/proc/thread-self/status").read_text()
    assert [after.count(f"{name}:\t0\n") for name in ("NoNewPrivs", "Seccomp", "Seccomp_filters")] == before


def test_a_home_directory_is_no_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A compiler in ~/bin does not open the home directory; one in a directory of its own is read whole."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("bin", "cc/bin"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mycc").symlink_to("/bin/true")
    paths = sandbox.used_by_compiler([str(tmp_path / "bin/mycc"), f"--sysroot={tmp_path}"])
    assert not any(tmp_path.is_relative_to(path) for path in paths)
    assert tmp_path / "cc" in sandbox.used_by_compiler([str(tmp_path / "cc/bin/mycc")])
