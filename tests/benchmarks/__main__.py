"""Measures what verifying costs: `tox -e bench`, or `python -m benchmarks` in the directory tests/."""

from __future__ import annotations

import argparse
import sys

from benchmarks.figures import figures

from vfio_verify.cli.common import private_hypothesis

_ROW = "{:<48} {:>10} {:>10}  {}\n"
_EXTRA = ("psutil", "pyperf")
"""What the extra `bench` installs, and most figures do without."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure the figures that the project promises.")
    parser.add_argument("--quick", action="store_true", help="do less work: shows that the benchmarks run, no more")
    parser.add_argument("--only", action="append", metavar="WORDS", help="figures with these words in their names")
    asked = parser.parse_args()
    known = figures(quick=asked.quick)
    chosen = [figure for figure in known if not asked.only or any(words in figure.name for words in asked.only)]
    if not chosen:
        parser.error("--only fits none of these figures:\n" + "\n".join(f"  {figure.name}" for figure in known))
    write(_ROW.format("figure", "measured", "target", ""))
    for figure in chosen:
        target = f"{'>=' if figure.at_least else '<='} {figure.target:g} {figure.unit}"
        try:
            measured = figure.measure()
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA:
                raise
            write(_ROW.format(figure.name, "-", target, f"needs {error.name}"))
        else:
            met = "met" if figure.is_met(measured) else "MISSED"
            write(_ROW.format(figure.name, f"{measured:.4g} {figure.unit}", target, met))


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    with private_hypothesis():
        main()
