"""What a process holds of the machine, as /proc tells an ordinary user: memory, threads, processor time."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_KIB = re.compile(r"^(?:VmRSS|VmPTE|VmSwap|HugetlbPages):\s+(\d+) kB$", re.MULTILINE)
_SHMEM = re.compile(rb"^Shmem:\s+(\d+) kB$", re.MULTILINE)


def processes() -> list[Path]:
    """The directories of all processes in /proc. `Path.glob` fails where one ends while it looks."""
    return [Path("/proc", name) for name in os.listdir("/proc") if name.isdigit()]


def stat_fields(process: Path) -> list[str]:
    """The fields of a process or a thread behind its name, as in proc(5): its state first. Raises OSError.

    The name may be anything: a subject can choose it.
    """
    return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()


def state(process: Path) -> str:
    """The state of a process or a thread as in proc(5); X if it is gone."""
    try:
        return stat_fields(process)[0]
    except OSError:
        return "X"


def activity(pid: int) -> tuple[str, float]:
    """The state of a process's first thread as in proc(5), or R where that waits for others and one of them does not
    sleep; and the processor time that the process has used, in seconds."""
    process = Path(f"/proc/{pid}")
    try:
        fields = stat_fields(process)
        is_busy = fields[0] == "S" and any(state(task) == "R" for task in (process / "task").iterdir())
    except OSError:
        return "R", 0.0  # it has ended, and the notice is on its way
    return "R" if is_busy else fields[0], used_seconds(fields)


def used_seconds(fields: list[str]) -> float:
    """The processor time that a process has used: of its `stat_fields`."""
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(process: Path) -> int:
    """How many threads a process has. Raises OSError."""
    return int(stat_fields(process)[17])


def held_bytes(process: Path) -> int:
    """The memory that is a process's own by its tables: pages that it has touched, page tables, what is swapped out,
    and files without a name that it has open. What is mapped and open counts twice, which does no harm.

    Pages of a memfd or of shared memory that were written and are in no table any more are not among them: see
    `machine_shared_bytes`. Raises OSError.
    """
    # The process's name stands on a line of its own, where no line break can be.
    status = (process / "status").read_text(errors="replace").partition("\n")[2]
    files = {(s.st_dev, s.st_ino): s for s in (fd.stat() for fd in (process / "fd").iterdir())}
    held = 1024 * sum(map(int, _KIB.findall(status)))
    return held + sum(s.st_blocks * 512 for s in files.values() if stat.S_ISREG(s.st_mode))


def machine_shared_bytes() -> int:
    """The shared memory that all processes of this machine hold, in tables or not; 0 where the kernel does not tell."""
    try:
        with open("/proc/meminfo", "rb", buffering=0) as file:  # each start of a worker asks
            found = _SHMEM.search(file.read(1 << 14) or b"")
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
