"""Cases drawn by Hypothesis, one decision after another, for properties of one's own."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import strategies as st

from vfio_verify.generate.layouts import any_case, well_formed
from vfio_verify.values.case import Case

_integers = lru_cache(maxsize=4096)(st.integers)
"""Hypothesis has such a cache too, in Python: a case asks it hundreds of times."""


class _Drawn:
    """Choices drawn one by one: each shrinks by itself."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(_integers(low, high)) if low < high else low


@st.composite
def cases(draw: st.DrawFn, *, valid: bool = False) -> Case:
    """Cases without faults; only well-formed ones with `valid`. For properties of one's own: shrinks best."""
    return (well_formed if valid else any_case)(_Drawn(draw))
