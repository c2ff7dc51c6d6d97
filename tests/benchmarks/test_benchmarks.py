"""The benchmarks run, and their table is sane. No figure is asserted: machines differ."""

from __future__ import annotations

import subprocess
import sys

import pytest
from benchmarks.campaigns import command_seconds, command_work, growth
from benchmarks.figures import Figure, figures
from places import TESTS

from vfio_verify.errors import HarnessError

FIGURES = figures(quick=True)
WITHOUT = "is not installed; it comes with the extra `bench`"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, where the world may install its signal handlers."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_promised_figure_is_a_positive_number_beside_its_target(subtests: pytest.Subtests) -> None:
    for promise in (
        "core / bare",
        "observed / bare",
        "second call",
        "of a sweep",
        "a sweep of the core / its mappings",
        "check / its mappings",
        "C subject, 5 layouts",
        "among",
        "check core",
        "violation in a C subject",
        "first violation, tree",
        "function in a file",
        "compare of two",
        "peak memory",
        "crashes",
        "--help",
        "one layout",
        "2 jobs / 1 job",
        "late / warm",
        "kept cases",
    ):
        assert promise in " | ".join(figure.name for figure in FIGURES)
    done = bench("--quick")
    assert done.returncode == 0, done.stderr
    table = {line[:48].rstrip(): line[48:].split() for line in done.stdout.splitlines()}
    assert list(table) == ["figure", *(figure.name for figure in FIGURES)]
    for figure in FIGURES:
        with subtests.test(figure.name):
            check_row(figure, table[figure.name])


def check_row(figure: Figure, words: list[str]) -> None:
    if "needs" in words:
        pytest.skip(f"{words[-1]} {WITHOUT}")
    number, unit, bound, target, same_unit, met = words
    assert (float(target), unit, same_unit) == (figure.target, figure.unit, figure.unit)
    assert bound == (">=" if unit == "/s" or "fuzz core, layouts a second" in figure.name else "<=")
    assert float(number) > 0
    if float(number) != figure.target:  # else it may be rounded
        assert met == ("met" if (float(number) > figure.target) == (bound == ">=") else "MISSED")
    if unit == "MB":  # more than one Python process: a sampler that missed the others would see less
        assert 10 < float(number) < 10_000


def test_the_table_fits_80_columns() -> None:
    assert all(len(figure.name) <= 48 for quick in (True, False) for figure in figures(quick=quick))
    done = bench("--quick", "--only", "core / bare calls, 16")
    assert max(len(line) for line in done.stdout.splitlines()) < 80


def test_the_figures_that_are_asked_for_are_measured() -> None:
    done = bench("--quick", "--only", "among", "--only", "of a sweep")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["figure", "faulty", "a"], done.stderr
    done = bench("--only", "no such figure")
    assert done.returncode == 2
    assert all(figure.name in done.stderr for figure in figures())


def test_memory_that_grows_is_told_from_memory_that_does_not() -> None:
    assert growth(range(1, 50)) > 1.5
    assert growth([7] * 50) == 1


def test_processor_time_is_not_more_than_the_clock_shows() -> None:
    pytest.importorskip("pyperf", reason=f"pyperf {WITHOUT}")
    assert 0 < command_work("--help") < command_seconds(1, "check", "core", "--examples", 1)


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(HarnessError, match="ended with status 2, not 0: Usage"):
        command_work("check", "core", "--no-such-option")
