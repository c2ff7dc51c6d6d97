"""The benchmark runs, and what it says of itself is sane. No figure is asserted: machines differ."""

from __future__ import annotations

import io
import itertools
import math
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from vfio_verify.cli.bench import Row, print_rows
from vfio_verify.cli.bench_commands import command_seconds, command_work, memory_growth
from vfio_verify.errors import HarnessError

_QUICK = """
import sys, msgspec
from vfio_verify.cli.bench import main
sys.stdout.buffer.write(msgspec.json.encode(main(quick=True)))
"""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Measured in a process of its own, since the world takes over the signals of the one it runs in."""
    done = subprocess.run([sys.executable, "-P", "-c", _QUICK], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=list[Row])


def test_every_promised_figure_has_a_row_and_a_target(rows: list[Row]) -> None:
    names = " | ".join(row.what for row in rows)
    assert len({row.what for row in rows}) == len(rows)
    for promise in (
        "core / bare",
        "observed / bare",
        "second call",
        "of a sweep",
        "among",
        "check core",
        "violation",
        "memory",
        "crashes",
        "--help",
        "one layout",
        "jobs against one",
        "late / warm",
        "kept cases",
    ):
        assert promise in names
    assert {row.unit for row in rows} == {"x", "s", "MB", "/s", "x as fast"}


def test_every_figure_is_a_positive_number(rows: list[Row]) -> None:
    for row in rows:
        assert math.isfinite(row.measured), row
        assert row.measured > 0, row
        large = row.unit in ("/s", "x as fast")
        assert row.met == (row.measured >= row.target if large else row.measured <= row.target), row


def test_a_check_takes_more_memory_than_one_python_process(rows: list[Row]) -> None:
    """A sampler that missed the processes would see less."""
    (memory,) = (row for row in rows if row.unit == "MB")
    assert 10 < memory.measured < 10_000


def test_the_table_shows_each_figure_and_whether_its_target_is_met() -> None:
    console = Console(file=io.StringIO(), width=100)
    print_rows([Row("a figure", 1.04, 1.05, "x", True), Row("another", 12.5, 10, "s", False)], console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO has it
    (first,) = (line for line in lines if "a figure" in line)
    (second,) = (line for line in lines if "another" in line)
    assert first.replace("|", "").split() == ["a", "figure", "1.04", "x", "<=", "1.05", "x", "met"]
    assert second.replace("|", "").split() == ["another", "12.50", "s", "<=", "10", "s", "MISSED"]


def test_memory_that_grows_is_told_from_memory_that_does_not() -> None:
    search = ("check", "core", "--examples", "150", "--jobs", "1")
    growing = itertools.count(1)
    assert memory_growth(search, lambda _pid: next(growing)) > 1.5
    assert memory_growth(search, lambda _pid: 7) == 1


def test_processor_time_is_not_more_than_the_clock_shows() -> None:
    assert 0 < command_work("--help") < command_seconds("check", "core", "--examples", "1")


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(HarnessError, match="ended with status 2: Usage"):
        command_seconds("check", "core", "--no-such-option")
