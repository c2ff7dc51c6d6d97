"""``vfio-verify replay``: kept cases run again."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import loaded, write
from vfio_verify.cli.common import jobs_option, of_subject, refuse_unwritable

if TYPE_CHECKING:
    from vfio_verify.campaign.replay import Outcome, ReplayReport
    from vfio_verify.subject.source.given import Given
    from vfio_verify.values.case import Policy

_INDENT = 15


@click.command(short_help="Run kept cases again, and say which still fail.")
@click.argument("corpus", nargs=-1)
@click.option("--subject", default="core", show_default=True, help='The subject, as for "check".')
@of_subject
@jobs_option
@click.option("--all", "show_all", is_flag=True, help="List every case, also those that pass or are fixed.")
@click.option("--json", "json_file", metavar="FILE", help="Write the outcome as JSON to FILE (- for standard output).")
def replay(
    corpus: tuple[str, ...],
    *,
    subject: str,
    function: str | None,
    given: Given,
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
    from vfio_verify.campaign.replay import replay_report
    from vfio_verify.subject.subject import open_subject
    from vfio_verify.worker.sandbox import SandboxFeature

    if json_file is not None and json_file != "-":
        refuse_unwritable(json_file)
    kept = loaded(corpus or ("tests/corpus",))
    parts = SandboxFeature.NONE if no_sandbox else SandboxFeature.ALL
    outcomes: list[Outcome] = []
    interrupted = False
    with open_subject(subject, function, parts, given) as opened:
        running = run_replay(opened, [one.entry for one in kept], policy=policy, parts=parts, jobs=jobs)
        try:
            with contextlib.closing(running):
                outcomes.extend(running)
        except KeyboardInterrupt:
            interrupted = True
    report = replay_report(opened, policy, kept, outcomes, interrupted=interrupted)
    if json_file != "-":
        _print_replay(report, len(kept), show_all=show_all)
    if json_file is not None:
        write(json_file, report.to_json())
    sys.exit(130 if interrupted else report.exit_status)


def _print_replay(report: ReplayReport, asked: int, *, show_all: bool) -> None:
    from vfio_verify.report.drawing import printable

    for case in report.cases:
        if not (show_all or case.found or case.reason):
            continue
        click.echo(f"{case.status:<{_INDENT}}{case.clause or '-':<15} {printable(case.name)}")
        for text in filter(None, (*(f"{found.clause}: {found.summary}" for found in case.found), case.reason)):
            for line in textwrap.wrap(printable(text), 80 - _INDENT - 2, break_on_hyphens=False):
                click.echo(" " * (_INDENT + 2) + line)
    told = ", ".join(f"{count:,} {status}" for status, count in report.counts.items() if count)
    if report.interrupted:
        click.echo(f"interrupted after {len(report.cases):,} of {asked:,} cases")
    click.echo(f"{printable(report.subject)}: {len(report.cases):,} cases: {told or 'none was run'}")
