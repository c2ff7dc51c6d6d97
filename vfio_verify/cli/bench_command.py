"""``vfio-verify bench``: the figures that the project promises."""

from __future__ import annotations

import click

from vfio_verify.cli.common import console


@click.command(short_help="Measure the figures that the project promises.")
@click.option("--quick", is_flag=True, help="Fewer rounds: shows that it works, not how fast it is.")
def bench(quick: bool) -> None:
    """Measure the figures that the project promises, as ratios in one run."""
    from vfio_verify.cli.bench import main as run_bench
    from vfio_verify.cli.bench import print_rows

    print_rows(run_bench(quick=quick), console())
