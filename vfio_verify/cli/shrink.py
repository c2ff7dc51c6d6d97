"""``vfio-verify shrink``: a case made smaller."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import known_clause, read_case, write
from vfio_verify.cli.common import of_subject, refuse_unwritable

if TYPE_CHECKING:
    from vfio_verify.subject.source.given import Given
    from vfio_verify.values.case import Policy


@click.command(short_help="Make a case smaller that still violates its clause.")
@click.argument("case")
@click.option("--subject", required=True, help='The subject, as for "check".')
@of_subject
@click.option(
    "--clause", metavar="CLAUSE", help="The clause to violate. [default: the one that the case was found to violate]"
)
@click.option("--out", metavar="FILE", help="Write the smaller case to FILE instead of standard output.")
def shrink(
    case: str,
    *,
    subject: str,
    function: str | None,
    given: Given,
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
    from vfio_verify.worker.sandbox import SandboxFeature

    clause = clause and known_clause(clause)
    if out is not None:
        refuse_unwritable(out)
    entry = read_case(case)
    parts = SandboxFeature.NONE if no_sandbox else SandboxFeature.ALL
    with open_subject(subject, function, parts, given) as opened:
        result = reduced(opened, entry, clause, policy=policy, parts=parts)
    if result.entry is None:
        instead = f"; it violates {', '.join(result.instead)}" if result.instead else ""
        click.echo(f"{subject} does not violate {result.clause or 'any clause'} on this case{instead}", err=True)
        sys.exit(1)
    write(out or "-", result.entry.to_json())
    how = "smaller" if result.smaller else "no smaller case found"
    click.echo(f"{result.clause}: {how}, {result.tries} cases tried", err=True)
