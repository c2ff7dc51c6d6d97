"""Which of the calls before a violation it needs, as far as few tries tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from vfio_verify.trial.histories import each_needed, fewest, last_needed
from vfio_verify.values.case import Case

CALLS = tuple(Case((), (), (), number) for number in range(60))


def counted(shows: Callable[[Sequence[Case]], bool]) -> tuple[Callable[[Sequence[Case]], bool], list[int]]:
    made: list[int] = []

    def asked(calls: Sequence[Case]) -> bool:
        made.append(len(calls))
        return shows(calls)

    return asked, made


@given(st.sets(st.sampled_from(CALLS), min_size=1, max_size=3))
def test_only_the_calls_that_are_needed_are_kept(wanted: set[Case]) -> None:
    shows, _ = counted(lambda calls: wanted <= set(calls))
    kept = each_needed(last_needed(CALLS, shows), shows)
    assert kept == tuple(call for call in CALLS if call in wanted)


@given(st.integers(1, 60))
def test_the_last_calls_are_asked_about_first(n: int) -> None:
    shows, made = counted(lambda calls: len(calls) >= n)
    kept = last_needed(CALLS, shows)
    assert kept == CALLS[-len(kept) :]
    assert n <= len(kept) < max(2, 2 * n)
    assert sum(made) <= 4 * n


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_the_fewest_are_found_in_few_tries(n: int, more: int) -> None:
    tries: list[int] = []
    assert fewest(n + more, lambda times: tries.append(times) is None and times >= n) == n
    assert len(tries) <= 11


def test_what_answers_no_to_all_keeps_the_whole_history() -> None:
    kept = last_needed(CALLS, lambda _: False)
    assert each_needed(kept, lambda _: False) == CALLS
