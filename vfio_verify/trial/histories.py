"""Finds the calls of a history that a violation needs, by few tries, each of which makes many calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vfio_verify.values.case import Case

Shows = Callable[[Sequence[Case]], bool]
"""Tells whether the violation comes after these calls."""


def last_needed(history: tuple[Case, ...], shows: Shows) -> tuple[Case, ...]:
    """The last calls, up to twice as many as are needed: what a call needs is often shortly before it."""
    n = 1
    while n < len(history) and not shows(history[-n:]):
        n *= 2
    return history[-min(n, len(history)) :]


def each_needed(calls: tuple[Case, ...], shows: Shows) -> tuple[Case, ...]:
    """Those of the calls that cannot be left out. `shows` may say no to whatever it has no time for."""
    return _without_chunks(calls[-fewest(len(calls), lambda n: shows(calls[-n:]), len(calls) // 2 + 1) :], shows)


def fewest(enough: int, shows: Callable[[int], bool], least: int = 1) -> int:
    """The smallest number that shows it, given that all larger ones do. `enough` is known to."""
    while least < enough:
        middle = (least + enough) // 2
        if shows(middle):
            enough = middle
        else:
            least = middle + 1
    return enough


def _without_chunks(calls: tuple[Case, ...], shows: Shows) -> tuple[Case, ...]:
    """Leave out half of the calls, a quarter, and so on, down to single calls."""
    size = len(calls) // 2
    while size:
        start = len(calls)
        while start > 0:
            start = max(0, start - size)
            fewer = (*calls[:start], *calls[start + size :])
            if fewer and shows(fewer):
                calls = fewer
        size //= 2
    return calls
