"""A user without rights, for tests that root runs."""

from __future__ import annotations

import subprocess
import sys

NOBODY = 65534


def python_of_nobody(path: str) -> str | None:
    """A Python of this version that a user without rights can run, and that finds this package."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            command = [python, "-c", "import sys, vfio_verify.worker.worker; print(sys.version_info[:2])"]
            done = subprocess.run(
                command,
                env={"PYTHONPATH": path},
                cwd="/",
                capture_output=True,
                check=True,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        if done.stdout.decode().strip() == str(sys.version_info[:2]):
            return python
    return None
