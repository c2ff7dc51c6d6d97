"""Tells Hypothesis what a test of one's own drew and how a run was judged: for its statistics, notes and records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import currently_in_test_context, event, given, note, settings
from hypothesis.internal import observability

from vfio_verify.campaign.observability import case_value
from vfio_verify.generate.strategies import cases
from vfio_verify.judge import Verdict
from vfio_verify.report.case_text import case_rows
from vfio_verify.values.case import Case
from vfio_verify.values.features import features
from vfio_verify.values.spec import clauses
from vfio_verify.values.words import relative_text

_SETTINGS = "_hypothesis_internal_use_settings"


def as_property(test: Callable[..., Any], argument: str) -> tuple[Callable[..., Any], list[Case]]:
    """A test that draws cases for one of its arguments, and a list that holds the last one drawn. What else the test
    takes is passed on by name."""
    drawn: list[Case] = []

    @functools.wraps(test)
    def told(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        drawn[:] = [kwargs[argument]]
        say(kwargs[argument])
        return test(*args, **kwargs)

    return _without_usual_deadline(given(**{argument: cases()})(told)), drawn


def _without_usual_deadline(test: Callable[..., Any]) -> Callable[..., Any]:
    """A deadline that the user did not choose would be missed by the first run, which compiles the subject."""
    usual: Any = settings.default
    chosen: Any = getattr(test, _SETTINGS, usual)
    if chosen.deadline == usual.deadline:
        # There is no public way to change settings that were applied.
        setattr(test, _SETTINGS, settings(chosen, deadline=None))
    return test


def say(case: Case) -> None:
    """Tell Hypothesis what was drawn: its features for the statistics, and its table for the failure."""
    for name in sorted(features(case)):
        event(name)
    rows = [f"{name:<12}{text}" for name, text in case_rows(case)]
    note("\n".join(["", *rows, "", f"--case '{case.to_json().decode()}'", ""]))


def say_verdict(verdict: Verdict) -> None:
    """Tell Hypothesis how a run was judged, if it is running a test."""
    if not currently_in_test_context():
        return
    for name in sorted(verdict.checked):
        event(f"exercised: {name}")
    for violation in verdict.violations:
        advice = "" if clauses()[violation.clause].fails_a_check else " (advice)"
        event(f"violates: {violation.clause}{advice}")
        note(f"{violation.clause}{advice}: {violation.summary}")
        seen = relative_text(violation.seen, violation.case, violation.observation)
        note(f"   expected {violation.expected}\n   seen     {seen}")


@contextmanager
def readable(argument: str, drawn: list[Case]) -> Iterator[None]:
    """Have Hypothesis's observations, if there are any, hold the case as JSON instead of as Python."""
    if not observability.observability_enabled():
        yield
        return

    def mend(seen: observability.Observation) -> None:
        if isinstance(seen, observability.TestCaseObservation) and argument in seen.arguments and drawn:
            seen.arguments[argument] = case_value(drawn[0])
        drawn.clear()

    # A callback of this thread is called before those of all threads, of which Hypothesis's own writer is one.
    with observability.with_observability_callback(mend):
        yield
