"""``vfio-verify spec``: the clauses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import known_clause
from vfio_verify.cli.common import console

if TYPE_CHECKING:
    from vfio_verify.values.spec import Clause


@click.command(short_help="Print the spec's clauses, or one of them in full.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("clause", required=False)
def spec(as_json: bool, clause: str | None) -> None:
    """Print the spec's clauses, or one CLAUSE: its rule, its source, and what violates it."""
    import msgspec

    from vfio_verify.values.spec import clauses

    chosen = list(clauses().values()) if clause is None else [clauses()[known_clause(clause)]]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=1))
    else:
        _print(chosen)


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
