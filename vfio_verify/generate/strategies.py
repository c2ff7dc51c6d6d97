"""Cases drawn by Hypothesis: one by one for properties, or from bytes for campaigns of many thousands.

Both ways make the same cases from the same decisions (vfio_verify/generate/layouts.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from vfio_verify.generate.layouts import OTHER_HOSTS, Choices, any_case, any_layout, on_host, well_formed
from vfio_verify.generate.sequences import with_sequence
from vfio_verify.values.case import Case

CASE_BYTES = 160
SEQUENCE_BYTES = 512


class _Drawn:
    """Choices drawn one by one: each shrinks by itself."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high)) if low < high else low


class _Decoded:
    """Choices read from bytes, ten times as fast as drawing them. Where the bytes end, the simplest follow."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def integer(self, low: int, high: int) -> int:
        span = high - low + 1
        width = 1 if span <= 256 else 8
        word = self._data[self._at : self._at + width]
        self._at += width
        return low + int.from_bytes(word, "little") % span


@st.composite
def cases(draw: st.DrawFn, *, valid: bool = False) -> Case:
    """Cases without faults; only well-formed ones with `valid`. For properties of one's own: shrinks best."""
    return (well_formed if valid else any_case)(_Drawn(draw))


def packed_case(data: bytes) -> Case:
    """The case that `CASE_BYTES` of data say."""
    return any_case(_Decoded(data))


def run_packed_cases(run: Callable[[Case], None], seed: int, examples: int) -> None:
    """Have Hypothesis make so many packed cases. The same seed makes the same cases.

    One in seven is on another host than ours. They come last, those of a host together: a process stays on one host,
    and what fills up in it is to be seen.
    """
    made = 0
    at_home = examples - examples // _ELSEWHERE

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.binary(min_size=CASE_BYTES, max_size=CASE_BYTES))
    def generate(data: bytes) -> None:
        nonlocal made
        choices = _Decoded(data)
        case = any_layout(choices)
        if made >= at_home:
            case = _elsewhere(choices, case, seed, made - at_home, examples - at_home)
        made += 1
        run(case)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on Hypothesis's advice for interactive use
        generate()


_ELSEWHERE = 7


def _elsewhere(choices: Choices, case: Case, seed: int, number: int, count: int) -> Case:
    """A case as one of `count` that are shared among the other hosts, of which a seed has each as the first."""
    hosts = min(len(OTHER_HOSTS), count)
    return on_host(choices, case, OTHER_HOSTS[(seed + number * hosts // count) % len(OTHER_HOSTS)])


def packed_sequence(case: Case, data: bytes) -> Case:
    """A case with actions after its call, made from `SEQUENCE_BYTES` of data."""
    return with_sequence(_Decoded(data), case)
