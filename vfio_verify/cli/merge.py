"""``vfio-verify merge``: the smallest set of kept cases that exercises the same."""

from __future__ import annotations

import click

from vfio_verify.cli.cases import corpus_to_write, loaded


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
    entries = [stored.entry for stored in loaded(corpus)]
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
