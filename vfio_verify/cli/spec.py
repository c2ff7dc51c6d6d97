"""``vfio-verify spec``: the clauses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import known_clause
from vfio_verify.cli.common import console
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from vfio_verify.values.conventions import Convention
    from vfio_verify.values.spec import Clause


@click.command(short_help="Print the spec's clauses, or one of them in full.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--conventions", is_flag=True, help="Print the conventions that --assume can name instead.")
@click.argument("clause", required=False)
def spec(as_json: bool, conventions: bool, clause: str | None) -> None:
    """Print the spec's clauses, or one CLAUSE: its rule, its source, and what violates it."""
    import msgspec

    from vfio_verify.values import conventions as known
    from vfio_verify.values.spec import clauses

    if conventions and clause is not None:
        raise InputError("--conventions goes without a clause")
    chosen = list(clauses().values()) if clause is None else [clauses()[known_clause(clause)]]
    assumed = list(known.conventions().values())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(assumed if conventions else chosen), indent=1))
    elif conventions:
        _print_conventions(assumed)
    else:
        _print(chosen)


def _print_conventions(assumed: Iterable[Convention]) -> None:
    from rich.text import Text

    from vfio_verify.report.text import Page

    page = Page(console())
    for convention in assumed:
        page.line(Text(convention.key, style="bold"))
        page.row("world", convention.world)
        page.row("QEMU", convention.qemu)
        page.line()


def _print(chosen: Iterable[Clause]) -> None:
    from rich.text import Text

    from vfio_verify.report.text import Page

    page = Page(console())
    for clause in chosen:
        page.line(Text(clause.id, style="bold") + Text(f"  {clause.level}", style="dim"))
        page.paragraph(clause.rule, indent=3)
        page.row("source", clause.source)
        page.row("evidence", clause.evidence)
        page.row("severity", _severity_text(clause))
        page.row("proof", clause.proof or "not decided by proof")
        page.row("tests", ", ".join(clause.tests))
        page.row("subjects", ", ".join(clause.subjects))
        page.line()


def _severity_text(clause: Clause) -> str:
    parts: list[str] = [clause.severity]
    if clause.after_fault is not None:
        parts.append(f"{clause.after_fault} if a step has to fail")
    for severity, causes in itertools.groupby(clause.severities.items(), lambda item: item[1]):
        parts.append(f"{severity} for {', '.join(repr(cause) for cause, _ in causes)}")
    return "; ".join(parts)
