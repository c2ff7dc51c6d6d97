"""``vfio-verify spec``: the clauses."""

from __future__ import annotations

import click

from vfio_verify.cli.common import console
from vfio_verify.errors import InputError


@click.command(short_help="Print the spec's clauses, or one of them in full.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("clause", required=False)
def spec(as_json: bool, clause: str | None) -> None:
    """Print the spec's clauses, or one CLAUSE: its rule, its source, and what violates it."""
    import msgspec

    from vfio_verify.report.text import print_spec
    from vfio_verify.values.spec import clauses

    known = clauses()
    if clause is not None and clause.upper() not in known:
        raise InputError(f"there is no clause {clause}; there are {', '.join(known)}")
    chosen = list(known.values()) if clause is None else [known[clause.upper()]]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=1))
    else:
        print_spec(chosen, console())
