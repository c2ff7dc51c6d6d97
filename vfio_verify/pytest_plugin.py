"""The pytest plugin: `@verifies`, the fixtures `vfio_case` and `vfio_run`, and `--vfio-subject`.

It is loaded in every run of pytest where this package is installed. A run that does not use it imports nothing else of
the package, and does not notice.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vfio_verify.testing.checks import Ask
    from vfio_verify.testing.harness import Run
    from vfio_verify.values.case import Case, Policy

    RunCase = Callable[..., Run]

_MARK = "vfio_verifies"
_CLAUSE = "vfio_clause"
_CASE = "vfio_case"
_ADVICE = "vfio_verify advice"
_EXAMPLES = 1000

_shared_key: pytest.StashKey[str] = pytest.StashKey()


def verifies(
    *names: str, function: str | None = None, examples: int | None = None, policy: Policy = "same-block"
) -> pytest.MarkDecorator:
    """Verify the helper whose C file the decorated test function returns: a test for each of the clauses named, or
    for every clause of the spec if none is.

    The path is relative to pytest's root directory; "core" is the reference implementation. `function` names the
    function where the file has several, and `examples` counts the layouts, which a command line with
    --vfio-examples overrules. All tests of one subject share one campaign. Raises ValueError.
    """
    from vfio_verify.values.spec import clauses

    unknown = [name for name in names if name not in clauses()]
    if unknown:
        raise ValueError(f"there is no clause {', '.join(unknown)}; there are {', '.join(clauses())}")
    mark: pytest.MarkDecorator = getattr(pytest.mark, _MARK)
    return mark.with_args(*(names or clauses()), function=function, examples=examples, policy=policy)


# ---- options ---------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vfio_verify", "vfio_verify: helpers that map VFIO memory for a dmabuf")
    group.addoption(
        "--vfio-subject",
        metavar="PATH",
        help="Run vfio_verify's own properties, a test for each clause, on a C file, a patch, or 'core'.",
    )
    group.addoption("--vfio-function", metavar="NAME", help="The function of --vfio-subject, where it has several.")
    group.addoption(
        "--vfio-examples",
        metavar="N",
        type=_from(1, sys.maxsize),
        help=f"Layouts for each subject. (default: {_EXAMPLES})",
    )
    group.addoption(
        "--vfio-seed",
        metavar="N",
        type=_from(0, (1 << 32) - 1),
        default=0,
        help="Same seed, same outcome. (default: 0)",
    )


def _from(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that takes a number in this range."""

    def number(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError  # of which argparse says: invalid number value
        return int(text)

    return number


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_MARK}(*clauses): what vfio_verify.pytest_plugin.verifies leaves on a test")
    subject = config.getoption("--vfio-subject")
    if subject not in (None, "core") and not _from_invocation(config, subject).is_file():
        raise pytest.UsageError(f"--vfio-subject: there is no file {subject}")


def _shared(config: pytest.Config) -> str:
    """The directory that all processes of a run share, by name only: whoever needs it makes it. Processes of xdist get
    the name from the one that starts them."""
    if _shared_key not in config.stash:
        from vfio_verify.worker.leftovers import own_prefix

        inherited = getattr(config, "workerinput", {}).get("vfio_verify")
        own = os.path.join(tempfile.gettempdir(), f"{own_prefix()}{uuid.uuid4().hex}")
        config.stash[_shared_key] = inherited or own
    return config.stash[_shared_key]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist starts a process."""
    node.workerinput["vfio_verify"] = _shared(node.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    shared = config.stash.get(_shared_key, None)
    if shared is not None and not hasattr(config, "workerinput") and os.path.isdir(shared):
        import shutil

        shutil.rmtree(shared, ignore_errors=True)


def _from_invocation(config: pytest.Config, subject: str) -> Path:
    return Path(os.path.abspath(config.invocation_params.dir / subject))


# ---- a clause --------------------------------------------------------------------------------------------------


def _ask(
    config: pytest.Config,
    subject: str,
    function: str | None,
    examples: int | None = None,
    policy: Policy = "same-block",
) -> Ask:
    """A question about a subject, which is named from the root directory, or by its whole path if it lies elsewhere."""
    from vfio_verify.testing.checks import Ask

    root = config.rootpath
    if subject != "core":
        path = root / subject
        subject = str(path.relative_to(root) if path.is_relative_to(root) else path)
        subject = f"./{subject}" if subject in ("core", "-") else subject
    asked: int | None = config.getoption("--vfio-examples")
    seed: int = config.getoption("--vfio-seed")
    return Ask(subject, str(root), function, policy, asked or examples or _EXAMPLES, seed)


def _check_clause(item: pytest.Item, ask: Ask, name: str) -> None:
    from vfio_verify.report.outlet import harmless
    from vfio_verify.testing.checks import check, outcome

    answer = check(ask, Path(_shared(item.config)))
    if answer.report is None:
        pytest.fail(harmless(answer.refusal), pytrace=False)
    found = outcome(answer.report, name)
    if found.kind == "failed":
        pytest.fail(found.text, pytrace=False)
    if found.kind == "skipped":
        pytest.skip(found.text)
    if found.kind == "advice":
        item.add_report_section("call", _ADVICE, found.text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show advice, which fails no test, so that it does not go unnoticed."""
    reports = terminalreporter.stats.get("passed", ())
    advice = {text: None for report in reports for title, text in report.sections if _ADVICE in title}
    for text in advice:
        terminalreporter.section(_ADVICE)
        terminalreporter.write_line(text)


# ---- @verifies ---------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker(_MARK)
    if mark is not None:
        # The function does not take it: it is read from the test.
        metafunc.fixturenames.append(_CLAUSE)
        metafunc.parametrize(_CLAUSE, mark.args, ids=mark.args)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    mark = pyfuncitem.get_closest_marker(_MARK)
    takes_case = _CASE in _arguments(pyfuncitem)
    if mark is None and not takes_case:
        return None
    given = {name: pyfuncitem.funcargs[name] for name in _arguments(pyfuncitem) if name != _CASE}
    if mark is None:
        from vfio_verify.testing.events import readable

        with readable(_CASE, pyfuncitem.obj.vfio_verify_drawn):
            pyfuncitem.obj(**given)
        return True
    if takes_case:
        pytest.fail("a test that @verifies a helper draws no cases itself: leave out vfio_case", pytrace=False)
    subject = pyfuncitem.obj(**given)
    if not isinstance(subject, str | os.PathLike):
        what = f"{pyfuncitem.name.partition('[')[0]}() must return the path of a C file, but returned {subject!r}"
        pytest.fail(what, pytrace=False)
    ask = _ask(pyfuncitem.config, os.fspath(subject), **mark.kwargs)
    _check_clause(pyfuncitem, ask, str(pyfuncitem.callspec.params[_CLAUSE]))
    return True


# ---- vfio_case and vfio_run ----------------------------------------------------------------------------------------


def _arguments(item: pytest.Function) -> tuple[str, ...]:
    names: tuple[str, ...] = item._fixtureinfo.argnames
    return names


def _draws(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and _CASE in _arguments(item)


def pytest_itemcollected(item: pytest.Item) -> None:
    _make_property(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _make_property(item)  # again, where the item is run again: pytest forgets its function in between


def _make_property(item: pytest.Item) -> None:
    """Make a test that takes a case draw it."""
    if not isinstance(item, pytest.Function) or not _draws(item) or item.get_closest_marker(_MARK) is not None:
        return
    test = item.obj
    function = getattr(test, "__func__", test)
    if not hasattr(function, "vfio_verify_drawn"):
        drawing = _property(function)
        item.obj = drawing if function is test else types.MethodType(drawing, test.__self__)


@functools.cache
def _property(function: Callable[..., Any]) -> Callable[..., Any]:
    """The property of a function: all tests of a parametrized one share what Hypothesis knows of it."""
    from vfio_verify.testing.events import as_property

    drawing, drawn = as_property(function, _CASE)
    drawing.vfio_verify_drawn = drawn  # type: ignore[attr-defined]  # a function takes any
    return drawing


@pytest.fixture
def vfio_case(request: pytest.FixtureRequest) -> None:
    """A layout drawn by Hypothesis. A test with this argument is run on many, like one with @given."""
    # The argument of a test comes from Hypothesis. A fixture is set up before anything is drawn.
    if not _draws(request.node):
        raise pytest.UsageError("vfio_case is drawn for a test function: a fixture cannot ask for it")


@pytest.fixture(scope="session")
def vfio_subject(pytestconfig: pytest.Config) -> str | None:
    """The subject that vfio_run runs by default: --vfio-subject. Define your own in conftest.py, for the session."""
    subject: str | None = pytestconfig.getoption("--vfio-subject")
    return subject if subject is None or subject == "core" else str(_from_invocation(pytestconfig, subject))


@pytest.fixture(scope="session")
def vfio_run(pytestconfig: pytest.Config, vfio_subject: str | os.PathLike[str] | None) -> Iterator[RunCase]:
    """``vfio_run(case, subject=..., function=..., policy=...)``: run a case in a process of its own, and judge it."""
    from vfio_verify.testing.harness import Harness

    with Harness() as harness:

        def run(
            case: Case,
            subject: str | os.PathLike[str] | None = vfio_subject,
            *,
            function: str | None = pytestconfig.getoption("--vfio-function"),
            policy: Policy = "same-block",
        ) -> Run:
            if subject is None:
                raise pytest.UsageError(
                    "vfio_run: no subject. Name one in the call, by --vfio-subject, or by a fixture vfio_subject"
                )
            name = os.fspath(subject)
            return harness.run(case, name if name == "core" else str(pytestconfig.rootpath / name), function, policy)

        yield run


# ---- --vfio-subject --------------------------------------------------------------------------------------------------


class _Subject(pytest.Collector):
    """The properties of a subject given on the command line."""

    def collect(self) -> Iterator[_ClauseTest]:
        from vfio_verify.values.spec import clauses

        for name in clauses():
            yield _ClauseTest.from_parent(self, name=name)


class _ClauseTest(pytest.Item):
    """One clause of the spec, held against that subject."""

    def runtest(self) -> None:
        config = self.config
        subject = config.getoption("--vfio-subject")
        path = subject if subject == "core" else str(_from_invocation(config, subject))
        _check_clause(self, _ask(config, path, config.getoption("--vfio-function")), self.name)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    subject = config.getoption("--vfio-subject")
    if subject is not None:
        name = os.path.basename(subject)
        collector = _Subject.from_parent(session, name=name, nodeid=name)
        report = collector.ihook.pytest_make_collect_report(collector=collector)
        collector.ihook.pytest_collectreport(report=report)  # which is what counts them
        items.extend(report.result)
