"""What tests draw besides `vfio_verify.generate.strategies.cases`."""

from __future__ import annotations

from hypothesis import strategies as st

from vfio_verify.generate.layouts import any_case
from vfio_verify.generate.packed import CASE_BYTES, packed_case
from vfio_verify.generate.sequences import with_sequence
from vfio_verify.generate.strategies import _Drawn
from vfio_verify.values.case import Case


def packed_cases() -> st.SearchStrategy[Case]:
    """Cases without faults, each from one draw of bytes, as a campaign makes them."""
    return st.binary(min_size=CASE_BYTES, max_size=CASE_BYTES).map(packed_case)


@st.composite
def sequences(draw: st.DrawFn) -> Case:
    """Cases with actions after their call."""
    choices = _Drawn(draw)
    return with_sequence(choices, any_case(choices))
