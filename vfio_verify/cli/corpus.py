"""The commands on kept cases: replay, show, shrink, merge, schema."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_verify import __version__
from vfio_verify.cli.common import jobs_option, kept_policy_option, refuse_unwritable, sandbox_option
from vfio_verify.errors import HarnessError, InputError

if TYPE_CHECKING:
    from vfio_verify.campaign.replay import Outcome, ReplayReport
    from vfio_verify.corpus.entry import Entry
    from vfio_verify.corpus.shared import Corpus, Kept
    from vfio_verify.judge import Violation
    from vfio_verify.subject.subject import Subject
    from vfio_verify.values.case import Policy

_INDENT = 15


def _of_subject(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that run cases on a subject."""
    function = click.option("--function", metavar="NAME", help="The function to run, if the source has several.")
    return function(kept_policy_option(sandbox_option(command)))


# ---- replay ---------------------------------------------------------------------------------------------------


@click.command(short_help="Run kept cases again, and say which still fail.")
@click.argument("corpus", nargs=-1)
@click.option("--subject", default="core", show_default=True, help='The subject, as for "check".')
@_of_subject
@jobs_option
@click.option("--all", "show_all", is_flag=True, help="List every case, also those that pass or are fixed.")
@click.option("--json", "json_file", metavar="FILE", help="Write the outcome as JSON to FILE (- for standard output).")
def replay(
    corpus: tuple[str, ...],
    *,
    subject: str,
    function: str | None,
    policy: Policy | None,
    no_sandbox: bool,
    jobs: int,
    show_all: bool,
    json_file: str | None,
) -> None:
    """Run the kept cases of each CORPUS again on a subject. CORPUS is a directory, a file or redis://HOST/NUMBER.
    [default: tests/corpus]

    The outcome of a case is one of: still failing (it violates the clause that it was found to violate), newly failing
    (it violates another), fixed, passes (it was not known to fail), unconfirmed (a violation was seen once and not
    again), not applicable.

    Exit status: 0 nothing fails, 1 something fails, 2 the input cannot be used, 3 the harness itself failed, 4 nothing
    fails, but a case is unconfirmed, 130 interrupted.
    """
    from vfio_verify.campaign.replay import replay as run_replay
    from vfio_verify.subject.subject import open_subject
    from vfio_verify.worker.sandbox import SandboxFeature

    if json_file is not None and json_file != "-":
        refuse_unwritable(json_file)
    stored = _loaded(corpus or ("tests/corpus",))
    parts = SandboxFeature.NONE if no_sandbox else SandboxFeature.ALL
    outcomes: list[Outcome] = []
    interrupted = False
    with open_subject(subject, function, parts) as opened:
        entries = [one.entry for one in stored]
        running = run_replay(opened, entries, policy=policy, parts=parts, jobs=jobs)
        try:
            with contextlib.closing(running):
                outcomes.extend(running)
        except KeyboardInterrupt:
            interrupted = True
    report = _replay_report(opened, policy, stored, outcomes, interrupted=interrupted)
    if json_file == "-":
        sys.stdout.buffer.write(report.to_json())
        sys.stdout.flush()
    else:
        _print_replay(report, len(stored), show_all=show_all)
        if json_file is not None:
            _write_file(json_file, report.to_json())
    sys.exit(130 if interrupted else report.exit_status)


def _loaded(places: Iterable[str]) -> list[Kept]:
    """The entries of all corpora; one that is in several, once."""
    from vfio_verify.corpus.shared import open_corpus

    found: dict[tuple[str, str], Kept] = {}
    for place in places:
        for kept in open_corpus(place).load():
            found.setdefault((kept.entry.name, str(kept.entry.origin)), kept)
    return list(found.values())


def _replay_report(
    subject: Subject, policy: Policy | None, stored: list[Kept], outcomes: list[Outcome], *, interrupted: bool
) -> ReplayReport:
    from vfio_verify.campaign.replay import CaseEntry, ReplayReport, counts

    cases = tuple(
        CaseEntry(one.place, outcome.status, outcome.clause, outcome.found, outcome.reason)
        for one, outcome in zip(stored, outcomes, strict=False)
    )
    fails = any(outcome.fails for outcome in outcomes)
    return ReplayReport(subject.name, policy, counts(outcomes), cases, fails, interrupted, __version__)


def _print_replay(report: ReplayReport, asked: int, *, show_all: bool) -> None:
    from vfio_verify.report.drawing import printable

    for case in report.cases:
        if not (show_all or case.found or case.reason):
            continue
        click.echo(f"{case.status:<{_INDENT}}{case.clause or '-':<15} {printable(case.name)}")
        said = [f"{found.clause}: {found.summary}" for found in case.found]
        for text in (*said, *([case.reason] if case.reason else [])):
            for line in textwrap.wrap(printable(text), 80 - _INDENT - 2, break_on_hyphens=False):
                click.echo(" " * (_INDENT + 2) + line)
    told = ", ".join(f"{count:,} {status}" for status, count in report.counts.items() if count)
    if report.interrupted:
        click.echo(f"interrupted after {len(report.cases):,} of {asked:,} cases")
    click.echo(f"{printable(report.subject)}: {len(report.cases):,} cases: {told or 'none was run'}")


# ---- one case ----------------------------------------------------------------------------------------------------


@click.command(short_help="Draw a case.")
@click.argument("case")
@kept_policy_option
def show(case: str, *, policy: Policy | None) -> None:
    """Draw CASE, which is a file of a corpus, JSON text as reports print it, URL#NAME, or - for standard input."""
    from vfio_verify.report.drawing import shown
    from vfio_verify.values.case import check

    entry = read_case(case)
    check(entry.case)
    for line in shown(entry, policy):
        click.echo(line)


@click.command(short_help="Make a case smaller that still violates its clause.")
@click.argument("case")
@click.option("--subject", required=True, help='The subject, as for "check".')
@_of_subject
@click.option(
    "--clause", metavar="CLAUSE", help="The clause to violate. [default: the one that the case was found to violate]"
)
@click.option("--out", metavar="FILE", help="Write the smaller case to FILE instead of standard output.")
def shrink(
    case: str,
    *,
    subject: str,
    function: str | None,
    policy: Policy | None,
    no_sandbox: bool,
    clause: str | None,
    out: str | None,
) -> None:
    """Make CASE as small as it can be while the subject still violates its clause. CASE is as for "show".

    Exit status: 0 the smallest case is printed, 1 the subject does not violate the clause, 2 the input cannot be used.
    """
    from vfio_verify.campaign.reduction import reduced
    from vfio_verify.subject.subject import open_subject
    from vfio_verify.values.spec import clauses
    from vfio_verify.worker.sandbox import SandboxFeature

    clause = clause and clause.upper()
    if clause is not None and clause not in clauses():
        raise InputError(f"there is no clause {clause}; there are {', '.join(clauses())}")
    if out is not None:
        refuse_unwritable(out)
    entry = read_case(case)
    parts = SandboxFeature.NONE if no_sandbox else SandboxFeature.ALL
    with open_subject(subject, function, parts) as opened:
        result = reduced(opened, entry, clause, policy=policy, parts=parts)
    if result.entry is None:
        instead = f"; it violates {', '.join(result.instead)}" if result.instead else ""
        click.echo(f"{subject} does not violate {result.clause or 'any clause'} on this case{instead}", err=True)
        sys.exit(1)
    if out is None:
        sys.stdout.buffer.write(result.entry.to_json())
        sys.stdout.flush()
    else:
        _write_file(out, result.entry.to_json())
    how = "smaller" if result.smaller else "no smaller case found"
    click.echo(f"{result.clause}: {how}, {result.tries} cases tried", err=True)


def read_case(text: str) -> Entry:
    """A case as a user names it: JSON text, a file, - for standard input, or where it is in a server."""
    from vfio_verify.corpus.entry import read_entry
    from vfio_verify.corpus.shared import is_shared, open_corpus

    if is_shared(text):
        entries = [kept.entry for kept in open_corpus(text).load()]
        if len(entries) > 1:
            raise InputError(f"there are {len(entries):,} cases there; add # and the name of one")
        return entries[0]
    if text.lstrip().startswith("{"):
        return read_entry(text.encode("utf-8", "surrogateescape"), "the case given")
    if text == "-":
        return read_entry(sys.stdin.buffer.read(), "standard input")
    try:
        return read_entry(Path(text).read_bytes(), text)
    except OSError as error:
        raise InputError(f"cannot read the case {text}: {error.strerror}") from error


# ---- corpora ----------------------------------------------------------------------------------------------------


@click.command(short_help="Keep the smallest set of cases that exercises as much.")
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "--into",
    required=True,
    metavar="DIR|URL",
    help="The directory, or redis://HOST/NUMBER, to write to. What it already holds stays.",
)
def merge(corpus: tuple[str, ...], *, into: str) -> None:
    """Keep the smallest set of the cases of each CORPUS that exercises the same features, clauses,
    causes and lines.

    The corpora that are read stay as they are.
    """
    from vfio_verify.corpus.merge import exercised, merged
    from vfio_verify.values.case import check

    target = corpus_to_write(into)
    entries = [stored.entry for stored in _loaded(corpus)]
    for entry in entries:
        check(entry.case)
    kept = merged(entries)
    written = sum(target.store(entry) is not None for entry in kept)
    items = frozenset[object]().union(*map(exercised, kept))
    clauses = {entry.clause for entry in kept} - {None}
    click.echo(
        f"kept {len(kept):,} of {len({entry.name for entry in entries}):,} cases: {len(clauses)} clauses, "
        f"{sum(isinstance(item, str) for item in items)} features; {written:,} are new in {target.shown}"
    )


@click.command(short_help="Print a JSON Schema.")
@click.argument("name", type=click.Choice(["case", "corpus", "replay", "report"]))
def schema(name: str) -> None:
    """Print the JSON Schema of a case, a corpus entry, the outcome of a replay, or a report."""
    from vfio_verify.report.schemas import published

    sys.stdout.buffer.write(published(name))
    sys.stdout.flush()


COMMANDS = (replay, show, shrink, merge, schema)


# ---- what other commands need too ------------------------------------------------------------------------------


def keep(corpus: Corpus, subject: str, violations: Iterable[Violation], *, seed: int | None, policy: Policy) -> None:
    """Store each violation as an entry, and say on standard error how many are new."""
    from vfio_verify.corpus.entry import found

    entries = [found(subject, v.clause, v.cause, v.case, seed=seed, policy=policy) for v in violations]
    written = sum(corpus.store(entry) is not None for entry in entries)
    click.echo(f"kept: {written} of {len(entries)} violations are new in {corpus.shown}", err=True)


def corpus_to_write(place: str) -> Corpus:
    """As `refuse_unwritable`, of a corpus."""
    from vfio_verify.corpus.shared import open_corpus

    corpus = open_corpus(place)
    corpus.refuse_unwritable()
    return corpus


def _write_file(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise HarnessError(f"cannot write to {path}: {error.strerror}") from error
