"""``vfio-verify show``: a case drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import read_case
from vfio_verify.cli.common import kept_policy_option

if TYPE_CHECKING:
    from vfio_verify.values.case import Policy


@click.command(short_help="Draw a case.")
@click.argument("case")
@kept_policy_option
def show(case: str, *, policy: Policy | None) -> None:
    """Draw CASE, which is a file of a corpus, JSON text as reports print it, URL#NAME, or - for standard input."""
    from vfio_verify.report.drawing import shown

    for line in shown(read_case(case), policy):
        click.echo(line)
