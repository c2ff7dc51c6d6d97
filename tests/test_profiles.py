"""Hypothesis's profiles differ in what tests/README.md says: how many examples, and whether they are new each time."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROPERTY = """
from pathlib import Path
from hypothesis import given, settings, strategies as st

drawn = []

@given(st.integers(0, 2**64), st.binary(max_size=64))
def test_something(number, data):
    drawn.append((number, data))

def test_tell():
    Path("drawn").write_text(repr(drawn))
    Path("stored").write_text(repr(settings().database is not None))
"""


def draw(directory: Path, *arguments: str, **more: str) -> tuple[list[object], bool]:
    """What one property is given under the suite's own conftest.py, and whether failures would be remembered."""
    directory.mkdir()
    for name in ("conftest.py", "huge_pages.py"):
        (directory / name).write_bytes((Path(__file__).parent / name).read_bytes())
    (directory / "test_something.py").write_text(PROPERTY)
    # The reports of a sanitizer are for the outer session, which fails by them.
    cleared = dict.fromkeys(("HYPOTHESIS_PROFILE", "CI", "VFIO_VERIFY_SANITIZER_REPORTS"), "")
    subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        check=True,
        cwd=directory,
        env={**os.environ, **cleared, **more},
        stdout=subprocess.DEVNULL,
        timeout=120,
    )
    return ast.literal_eval((directory / "drawn").read_text()), (directory / "stored").read_text() == "True"


def test_dev_is_the_usual_one_and_draws_anew_each_time(tmp_path: Path) -> None:
    first, stored = draw(tmp_path / "1")
    second, _ = draw(tmp_path / "2", HYPOTHESIS_PROFILE="dev")
    assert first != second
    assert len(first) == len(second) == 100
    assert stored


def test_ci_draws_the_same_each_time_and_remembers_nothing(tmp_path: Path) -> None:
    first, stored = draw(tmp_path / "1", HYPOTHESIS_PROFILE="ci")
    second, _ = draw(tmp_path / "2", CI="true")
    assert first == second
    assert len(first) == 200
    assert not stored


def test_nightly_draws_much_more_and_anew_each_time(tmp_path: Path) -> None:
    first, stored = draw(tmp_path / "1", HYPOTHESIS_PROFILE="nightly", CI="true")
    second, _ = draw(tmp_path / "2", HYPOTHESIS_PROFILE="nightly")
    assert first != second
    assert len(first) == 2000
    assert stored


def test_the_command_line_wins(tmp_path: Path) -> None:
    drawn, _ = draw(tmp_path / "1", "--hypothesis-profile", "ci", HYPOTHESIS_PROFILE="nightly")
    assert len(drawn) == 200


def test_a_profile_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        draw(tmp_path / "1", HYPOTHESIS_PROFILE="lazy")
