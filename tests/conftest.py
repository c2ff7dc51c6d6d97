"""What holds for every test: which package is tested, and how hard Hypothesis tries."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import vfio_verify

# No deadline: a case makes mappings and talks to a worker process, and machines differ.
settings.register_profile("dev", deadline=None, print_blob=True)
# In CI the same examples every time, and no failure for a slow or shared machine.
settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# `pytest --hypothesis-profile NAME` wins over this.
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def alone_with_huge_pages() -> Iterator[None]:
    """The machine has one pool of them, which one test fills and others want empty."""
    with (Path(tempfile.gettempdir()) / "vfio-verify-huge-pages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


PACKAGE = Path(vfio_verify.__file__).parent


def pytest_report_header() -> str:
    return f"vfio_verify: {PACKAGE}"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Under tox the wheel is tested; the checkout beside the tests must not stand in for it."""
    if os.environ.get("VFIO_VERIFY_TEST_INSTALLED") == "1" and PACKAGE.parent == session.config.rootpath:
        pytest.exit(f"the tests would import the checkout, {PACKAGE}, and not the wheel", returncode=4)
