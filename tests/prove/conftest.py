"""CBMC, if there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from places import CHECKOUT

from vfio_verify.errors import InputError
from vfio_verify.prove import cbmc as solver
from vfio_verify.prove.text import text_of
from vfio_verify.subject.subject import CORE


@pytest.fixture
def cbmc() -> solver.Cbmc:
    try:
        return solver.find(None)
    except InputError as error:
        pytest.skip(str(error).partition(". ")[0])


@pytest.fixture
def untraced() -> None:
    """A core whose C is what users prove: in `tox -e cov`, Cython has put calls of Python between its lines."""
    if "__Pyx_TraceLine(" in text_of(CORE, CHECKOUT / "specs" / "model").own[0].read_text():
        pytest.skip("the core is built for the coverage of its lines")


@pytest.fixture
def no_cbmc(monkeypatch) -> Iterator[None]:
    """A machine on which there is a compiler, and no CBMC."""
    monkeypatch.delenv(solver.ENVIRONMENT, raising=False)
    found = shutil.which("cbmc")
    if found is not None:
        path = [place for place in os.environ["PATH"].split(":") if place != os.path.dirname(found)]
        monkeypatch.setenv("PATH", ":".join(path))
