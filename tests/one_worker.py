"""A case, a library made of C text, and whether a worker answers as it should: for tests of workers."""

from __future__ import annotations

import os
import subprocess
from importlib.resources import files
from pathlib import Path

from vfio_verify.judge import judge
from vfio_verify.subject.compiler import WRAPPED
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker.worker import Worker

CASE = Case(
    (Device((Region(0, 16 * PAGE),)),),
    (RamBlock(0, 0, 0),),
    (Segment(0, 0, PAGE), Segment(0, 2 * PAGE, 2 * PAGE)),
    3 * PAGE,
)


def compiled(directory: Path, text: str) -> Path:
    (directory / "subject.c").write_text(text)
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    include = f"-I{files('vfio_verify') / 'include'}"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O0", "-fno-builtin", "-fPIC", "-shared", "-w", "-pthread", include]
    subprocess.run(["cc", *flags, *wrap, "-o", "subject.so", "subject.c"], cwd=directory, check=True, timeout=60)
    return directory / "subject.so"


def is_right(seen: Observation, case: Case = CASE) -> bool:
    return seen.mapped and judge(case, expect(case), seen).violations == ()


def open_fds(worker: Worker) -> list[int]:
    """The descriptors that a worker's process has open between two requests."""
    return sorted(map(int, os.listdir(f"/proc/{worker._process.pid}/fd")))


def lowest_free_fd(worker: Worker) -> int:
    """The descriptor that it would be given next."""
    taken = open_fds(worker)
    return next(fd for fd in range(len(taken) + 1) if fd not in taken)
