"""What a sanitizer finds in a worker is written down, though the worker's end passes for the subject's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sanitized

SUBJECT = """
bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    static char text[8];
    char *volatile end = text + sizeof(text);
    volatile int wide = 40;

    %s
    error_setg(errp, "no");
    return false;
}
"""


@pytest.mark.skipif("VFIO_VERIFY_SANITIZE" not in os.environ, reason="a test of `tox -e asan`, not of vfio_verify")
@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("*end = 1;", "AddressSanitizer: global-buffer-overflow"),
        ("wide = 1 << wide;", "runtime error: shift exponent 40 is too large"),
    ],
)
def test_a_fault_in_a_worker_leaves_a_report(tmp_path: Path, fault: str, report: str) -> None:
    """Here the subject is instrumented, by CC, and has the fault."""
    source, reports = tmp_path / "subject.c", tmp_path / "reports"
    source.write_text(SUBJECT % fault)
    reports.mkdir()
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -static-libubsan"
    subprocess.run(
        [sys.executable, "-P", "-m", "vfio_verify", "check", str(source), "--examples", "1"],
        env=os.environ | sanitized.environment(reports) | {"CC": f"gcc {flags} -Wl,--exclude-libs,libubsan.a"},
        capture_output=True,
        cwd=tmp_path,
        check=False,
        timeout=120,
    )
    assert any(report in path.read_text() for path in reports.iterdir())
