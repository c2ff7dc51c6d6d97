"""Hypothesis's observations of a campaign: its own records, with each case's features and how it was judged. They have
the form that Hypothesis writes, so that viewers of that form show them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, event, given, seed, settings, target
from hypothesis import strategies as st
from hypothesis.internal import observability

from vfio_verify.judge import Verdict
from vfio_verify.values.case import Case
from vfio_verify.values.features import features
from vfio_verify.values.observation import Observation
from vfio_verify.values.spec import clauses

FILE = "vfio-verify_testcases.jsonl"
"""The file in the directory of an `Observer`, named as Hypothesis names such files."""

_NATIVE = 1 << 63
_COPIED = ("type", "run_start", "how_generated", "features", "timing", "coverage")


def case_value(case: Case) -> Any:
    """A case as a value for JSON."""
    return _fitting(msgspec.to_builtins(case))


def _fitting(value: Any) -> Any:
    """The value with floats in place of integers that a reader of signed 64 bits cannot hold, as Hypothesis has it."""
    if isinstance(value, dict):
        return {name: _fitting(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fitting(part) for part in value]
    return float(value) if isinstance(value, int) and value >= _NATIVE else value


class Observer:
    """Tells Hypothesis of each layout of a campaign, and writes its records to a directory."""

    def __init__(self, directory: str, subject: str) -> None:
        self._path, self._subject = Path(directory, FILE), subject
        self._case: Case | None = None

    def begin(self, case: Case, faultless: Observation) -> None:
        """Begin a layout, which was run without a fault."""
        self._case, self._steps, self._runs = case, faultless.n_events, 0
        self._checked: set[str] = set()
        self._violated: dict[str, str] = {}

    def judged(self, verdict: Verdict) -> None:
        """Add the verdict on one of its runs."""
        self._runs += 1
        self._checked |= verdict.checked
        for violation in verdict.violations:
            for one in violation.whole:
                self._violated.setdefault(one.clause, one.summary)

    def observe(self, cases: list[Case], run: Callable[[Case], None]) -> None:
        """Run each of these cases inside a test of Hypothesis's, and write what it tells of them."""
        left = iter(cases)

        @seed(0)
        @settings(
            max_examples=len(cases),
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.integers(0, (1 << 64) - 1))
        def test(_: int) -> None:
            run(next(left))
            self._tell()

        with self._writing(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on Hypothesis's advice for interactive use
            test()

    def _tell(self) -> None:
        """Tell Hypothesis of the layout that was run."""
        if self._case is None:
            return  # it was left out: the subject hangs too often
        for name in sorted(features(self._case)):
            event(name)
        event("runs", payload=self._runs)
        event("segments", payload=len(self._case.iovec))
        for name in sorted(self._violated):
            event(f"violates: {name}")
        # It is only recorded: a campaign has no phase in which Hypothesis would pursue it.
        target(self._steps, label="steps without a fault")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Have what Hypothesis tells written."""
        before = observability.OBSERVABILITY_COLLECT_COVERAGE
        # The lines covered would be ours, and not the subject's.
        observability.OBSERVABILITY_COLLECT_COVERAGE = False
        try:
            with observability.with_observability_callback(self._write):
                yield
        finally:
            observability.OBSERVABILITY_COLLECT_COVERAGE = before

    def _write(self, seen: observability.Observation) -> None:
        if not isinstance(seen, observability.TestCaseObservation) or self._case is None:
            return
        advice = {name for name in self._violated if not clauses()[name].fails_a_check}
        record = {name: getattr(seen, name) for name in _COPIED} | {
            "property": f"vfio-verify check {self._subject}",
            "status": "failed" if set(self._violated) - advice else seen.status,
            "status_reason": "; ".join(f"{name}: {summary}" for name, summary in self._violated.items()),
            "representation": f"--case '{self._case.to_json().decode()}'",
            "arguments": {"case": case_value(self._case)},
            "metadata": {
                "clauses exercised": [name for name in clauses() if name in self._checked],
                "clauses violated": [name for name in clauses() if name in self._violated],
                "runs": self._runs,
                "traceback": None,
            },
        }
        line = json.dumps(record).encode() + b"\n"
        # Several processes write, so each record is written at once, at the end of the file.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(line)
        self._case = None
