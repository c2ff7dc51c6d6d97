"""Run pytest with the sanitizers' runtimes in place, for modules built with VFIO_VERIFY_SANITIZE=1 (`tox -e asan`).

Words on the command line go to pytest. Reports are written to files: a worker has no standard error, and its end by a
report would pass for the end of a subject. `conftest.py` fails the session where there is a report.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PRELOADED = "libasan.so"
RUNTIMES = (PRELOADED, "libubsan.a")

OPTIONS = {
    # The world has signal handlers and an alternate stack of its own, and a subject's signals are its business.
    **dict.fromkeys(("handle_segv", "handle_sigbus", "handle_abort", "handle_sigill", "handle_sigfpe"), "0"),
    "use_sigaltstack": "0",
    "allow_user_segv_handler": "1",
    "halt_on_error": "1",
    "abort_on_error": "1",
    # Python keeps much until its end; what the world leaks, its own counts tell.
    "detect_leaks": "0",
    # As malloc() does. Tests ask for more than there is.
    "allocator_may_return_null": "1",
    # Between two looks at the address space the allocator is to map nothing: no quarantine that grows, no stacks
    # kept of allocations. Workers run for long and allocate little.
    "quarantine_size_mb": "0",
    "thread_local_quarantine_size_kb": "0",
    "malloc_context_size": "0",
    # A longjmp() out of a signal handler makes the whole stack's shadow zero: by writing, not by mapping it anew,
    # which would show as a change of the process.
    "clear_shadow_mmap_threshold": str(16 << 20),
    # The world grows the real stack before it looks, and finds its own stack by the address of a variable.
    "detect_stack_use_after_return": "0",
}


def find_runtimes() -> dict[str, Path]:
    """The libraries of the compiler that built the modules. Ends the process where there are none."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["gcc"]
    found = {}
    for name in RUNTIMES:
        path = name
        if shutil.which(compiler[0]):
            command = [*compiler, f"-print-file-name={name}"]
            path = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if not Path(path).is_absolute():  # the compiler gives the bare name back where it has no such file
            sys.exit(
                f"error: {compiler[0]} has no {name}. The sanitizers' runtimes come with GCC.\n"
                "Debian, Ubuntu:  apt-get install gcc libc6-dev\n"
                "Fedora, RHEL:    dnf install gcc libasan libubsan-static"
            )
        found[name] = Path(path).resolve()
    return found


def environment(reports: Path) -> dict[str, str]:
    """That of a process which can load the modules, and which writes its reports into a directory."""
    options = OPTIONS | {"log_path": str(reports / "report")}
    asan = ":".join(f"{name}={value}" for name, value in options.items())
    return {
        # First, before all that calls malloc(): loaded later it would see half of what happens.
        "LD_PRELOAD": str(find_runtimes()[PRELOADED]),
        "ASAN_OPTIONS": asan,
        "UBSAN_OPTIONS": f"{asan}:print_stacktrace=1",
        "VFIO_VERIFY_SANITIZE": "1",
        "VFIO_VERIFY_SANITIZER_REPORTS": str(reports),
    }


def main() -> None:
    """Become the test session."""
    with tempfile.TemporaryDirectory(prefix="vfio-verify-reports-") as directory:
        status = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *sys.argv[1:]],
            env=os.environ | environment(Path(directory)),
            check=False,
        ).returncode
    sys.exit(status)


if __name__ == "__main__":
    main()
