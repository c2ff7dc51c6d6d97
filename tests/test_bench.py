"""The benchmark runs, and what it says of itself is sane. No figure is asserted: machines differ."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from vfio_verify.bench import Row, print_rows

_QUICK = """
import sys, msgspec
from vfio_verify.bench import main
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
    ):
        assert promise in names
    assert {row.unit for row in rows} == {"x", "s", "MB", "/s"}


def test_every_figure_is_a_positive_number(rows: list[Row]) -> None:
    for row in rows:
        assert math.isfinite(row.measured), row
        assert row.measured > 0, row
        assert row.met == (row.measured >= row.target if row.unit == "/s" else row.measured <= row.target), row


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
