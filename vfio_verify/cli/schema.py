"""``vfio-verify schema``: the JSON Schemas."""

from __future__ import annotations

import click


@click.command(short_help="Print a JSON Schema.")
@click.argument("name", type=click.Choice(["case", "certificate", "comparison", "corpus", "replay", "report"]))
def schema(name: str) -> None:
    """Print the JSON Schema of a case, the certificate of a proof, a comparison, a corpus entry, the outcome of a
    replay, or a report."""
    from importlib.resources import files

    click.echo(files("vfio_verify.specs").joinpath("schemas", f"{name}.json").read_bytes(), nl=False)
