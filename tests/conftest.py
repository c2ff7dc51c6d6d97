"""What holds for every test: which package is tested, and how hard Hypothesis tries."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from huge_pages import huge_pages_as_they_are, huge_pages_of_ones_own
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

import vfio_verify

# No deadline: a case makes mappings and talks to a worker process, and machines differ.
# What is the usual way elsewhere is not where CI is set: Hypothesis then has a profile of its own.
_NEW_EACH_TIME = {"derandomize": False, "database": DirectoryBasedExampleDatabase(".hypothesis/examples")}
settings.register_profile("dev", deadline=None, print_blob=True, max_examples=100, **_NEW_EACH_TIME)
# In CI the same examples every time, and no failure for a slow or shared machine.
settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    max_examples=200,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# At night there is time to look for what nobody has seen: new examples, and many.
settings.register_profile(
    "nightly",
    deadline=None,
    print_blob=True,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
    **_NEW_EACH_TIME,
)
# `pytest --hypothesis-profile NAME` wins over this.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# What a job on GitHub Actions changes about the program, tests that are about it ask for.
for _name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
    os.environ.pop(_name, None)


@pytest.fixture
def alone_with_huge_pages() -> Iterator[None]:
    with huge_pages_of_ones_own():
        yield


@pytest.fixture
def steady_huge_pages() -> Iterator[None]:
    """For tests that hold one campaign against another."""
    with huge_pages_as_they_are():
        yield


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about threads: a check makes its concurrent calls in few rounds, of which 24 take longer
    than all else of a short one."""
    monkeypatch.setattr("vfio_verify.campaign.shard._CONCURRENT_ROUNDS", 4)


@pytest.fixture
def short_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs is given less time in this process."""
    from vfio_verify.worker.worker import Worker

    for module in ("limits", "asking"):
        monkeypatch.setattr(f"vfio_verify.worker.{module}.TICK_SECONDS", 0.05)
    monkeypatch.setitem(Worker.__init__.__kwdefaults__, "cpu_seconds", 0.2)
    monkeypatch.setitem(Worker.__init__.__kwdefaults__, "sleep_seconds", 0.6)


@pytest.fixture
def impatient(short_of_time: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs is made small in fewer tries, too."""
    monkeypatch.setattr("vfio_verify.trial.minimize._MAX_SLOW_TRIES", 2)


# A project of its own, which test_pytest_plugin.py runs in a copy.
collect_ignore = ["example_project"]

# Where things lie that are made once a session (once.py). The processes that xdist starts inherit it.
_MADE_ONCE = None
if "VFIO_VERIFY_MADE_ONCE" not in os.environ:
    _MADE_ONCE = tempfile.TemporaryDirectory(prefix="vfio-verify-tests-")
    os.environ["VFIO_VERIFY_MADE_ONCE"] = _MADE_ONCE.name

PACKAGE = Path(vfio_verify.__file__).parent
SANITIZED = os.environ.get("VFIO_VERIFY_SANITIZE") == "1"


def pytest_report_header() -> str:
    return f"vfio_verify: {PACKAGE}"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Under tox the wheel is tested; the checkout beside the tests must not stand in for it."""
    if os.environ.get("VFIO_VERIFY_TEST_INSTALLED") == "1" and PACKAGE.parent == session.config.rootpath:
        pytest.exit(f"the tests would import the checkout, {PACKAGE}, and not the wheel", returncode=4)
    built = [file for pattern in ("_*.so", "_worker") for file in PACKAGE.glob(pattern)]
    if SANITIZED and not all(b"__asan_init" in file.read_bytes() for file in built):
        pytest.exit(f"VFIO_VERIFY_SANITIZE is set, and what {PACKAGE} has is built without it", returncode=4)


def pytest_xdist_auto_num_workers() -> int | None:
    """With `-n auto`, half as many more than processors: where a test waits for a process, another one runs."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    processors = len(os.sched_getaffinity(0))
    return processors + processors // 2


# ---- under AddressSanitizer and UndefinedBehaviorSanitizer (tests/sanitized.py) ----------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_under_asan(reason): skipped by `tox -e asan`, and why")
    config.addinivalue_line("markers", "prove: takes minutes, with CBMC; `tox -e prove` runs these and no others")
    config.addinivalue_line("markers", "slow: takes many seconds, and is begun first, so that no process waits for it")
    config.addinivalue_line("markers", "long: takes many minutes; `tox -e long` runs these and no others")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SANITIZED and (mark := item.get_closest_marker("not_under_asan")):
            item.add_marker(pytest.mark.skip(reason=f"not under AddressSanitizer: {mark.args[0]}"))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    gc.freeze()  # the tests live to the end: no search for garbage need look at them again


def sanitizer_reports() -> list[Path]:
    """What the sanitizers wrote in any process of the session, however that process ended."""
    directory = os.environ.get("VFIO_VERIFY_SANITIZER_REPORTS") if SANITIZED else None
    return sorted(Path(directory).iterdir()) if directory else []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A report in a worker looks like the death of a subject, which tests expect: it fails the session here."""
    if sanitizer_reports():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    if _MADE_ONCE is not None:
        _MADE_ONCE.cleanup()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [dict(report.user_properties) for report in terminalreporter.getreports("passed")]
    if long_runs := [properties["long_run_cases"] for properties in passed if "long_run_cases" in properties]:
        text = f"{sum(long_runs):,} cases on {len(long_runs)} correct subjects: no alarm, and nothing unconfirmed"
        terminalreporter.write_line(text)
    for report in sanitizer_reports():
        terminalreporter.section(f"sanitizer {report.name}", red=True, bold=True)
        terminalreporter.write_line(report.read_text(errors="backslashreplace"))
