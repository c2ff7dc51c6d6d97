"""The program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "vfio_verify", *map(str, arguments)]


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def started(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """In a session of its own, with its temporary files in its working directory."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(cwd)},
    )
