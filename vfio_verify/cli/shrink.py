"""``vfio-verify shrink``: a case made smaller."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import read_case, write_file
from vfio_verify.cli.common import of_subject, refuse_unwritable
from vfio_verify.errors import InputError

if TYPE_CHECKING:
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
        write_file(out, result.entry.to_json())
    how = "smaller" if result.smaller else "no smaller case found"
    click.echo(f"{result.clause}: {how}, {result.tries} cases tried", err=True)
