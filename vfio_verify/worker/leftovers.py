"""What a run leaves behind when it is killed (SIGKILL), and how the next one clears it away.

The names of a run's temporary directories and semaphores tell its process: its number, its start time, and the boot
of the machine and the namespace of processes for which these hold. What names a process that lives, or one of another
machine or container that shares the directory, is left alone, and so is what another user owns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vfio_verify.worker.usage import stat_fields

_PREFIX = "vfio-verify-"
_SEMAPHORES = Path("/dev/shm")  # where the C library keeps them
_NAME = re.compile(rf"(?:sem\.)?{_PREFIX}(?P<place>[0-9a-f]{{8}})-(?P<pid>\d{{1,10}})-(?P<start>\d{{1,20}})-\w+")


def own_prefix() -> str:
    """The beginning of the name of everything that this process makes."""
    return f"{_PREFIX}{_place()}-{os.getpid()}-{_start(os.getpid())}-"


@contextlib.contextmanager
def private_directory() -> Iterator[str]:
    """A temporary directory of this process's own. What killed runs left beside it is removed first. Raises OSError."""
    sweep()
    with tempfile.TemporaryDirectory(prefix=own_prefix()) as directory:
        yield directory


@contextlib.contextmanager
def named_semaphores() -> Iterator[None]:
    """Semaphores that multiprocessing makes in here are named after this process."""
    import multiprocessing  # late: who only removes what others left does without

    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = config["semprefix"]
    config["semprefix"] = f"/{own_prefix().rstrip('-')}"
    try:
        yield
    finally:
        config["semprefix"] = before


def sweep(*places: Path) -> None:
    """Remove what processes that are gone left behind. What cannot be removed is left to another sweep."""
    for place in places or (Path(tempfile.gettempdir()), _SEMAPHORES):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if _is_left(entry):
                    _remove(entry)


def _is_left(entry: os.DirEntry[str]) -> bool:
    named = _NAME.fullmatch(entry.name)
    if named is None or named["place"] != _place() or _start(int(named["pid"])) == int(named["start"]):
        return False
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return status.st_uid == os.geteuid() and (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode))


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)  # it follows no link, inside either
    else:
        with contextlib.suppress(OSError):
            os.unlink(entry.path)


def _place() -> str:
    """Where process numbers mean what they mean here: this boot of this machine, and this namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return f"{os.getpid() % (1 << 32):08x}"  # no other run's: nothing is swept
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


def _start(pid: int) -> int:
    """When a process began, in the kernel's ticks; -1 if it is gone."""
    try:
        return int(stat_fields(Path(f"/proc/{pid}"))[19])
    except (OSError, IndexError, ValueError):
        return -1
