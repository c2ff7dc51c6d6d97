"""Campaigns for pytest: one for each subject and session, however many tests and processes of xdist ask for it.

A campaign is what `vfio-verify check` does, in a process of its own: Hypothesis's settings and its state in the process
of the tests are the user's.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from rich.console import Console

from vfio_verify.report.outlet import harmless
from vfio_verify.report.report import UNCONFIRMED_STATUS, Report
from vfio_verify.report.text import print_clause
from vfio_verify.values.case import Policy
from vfio_verify.values.spec import clauses

_WIDTH = 80


class Ask(Struct, frozen=True):
    """What is checked, and how."""

    subject: str
    """As a user in `directory` would name it."""
    directory: str
    function: str | None = None
    policy: Policy = "same-block"
    examples: int = 1000
    seed: int = 0

    def command(self) -> list[str]:
        """The command that answers it, with the report on its standard output."""
        function = [] if self.function is None else ["--function", self.function]
        options = [*function, "--policy", self.policy, "--examples", str(self.examples), "--seed", str(self.seed)]
        # -P: what lies in the working directory must not stand in for a module.
        return [sys.executable, "-P", "-m", "vfio_verify", "check", *options, "--json", "-", "--", self.subject]

    def key(self) -> str:
        """The same for the same question about the same contents."""
        path = Path(self.directory, self.subject)
        contents = path.read_bytes() if path.is_file() else b""
        return hashlib.sha256(msgspec.json.encode(self) + contents).hexdigest()


class _Answer(Struct, frozen=True):
    """A report, or why there is none."""

    report: Report | None = None
    refusal: str = ""


class CannotCheckError(Exception):
    """There is no report; the message says why."""


class Checks:
    """The campaigns of a session. Its processes share what lies in `directory`, which this makes when it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, _Answer] = {}

    def report(self, ask: Ask) -> Report:
        """Run a campaign, or wait for the process that does. Raises CannotCheckError."""
        key = ask.key()
        if key not in self._known:
            self._known[key] = self._shared(ask, key)
        answer = self._known[key]
        if answer.report is None:
            raise CannotCheckError(answer.refusal)
        return answer.report

    def _shared(self, ask: Ask, key: str) -> _Answer:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / f"{key}.json"
        with (self._directory / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, by the end of the process at the latest
            if not path.exists():
                unfinished = path.with_suffix(".new")
                unfinished.write_bytes(msgspec.json.encode(_run(ask)))
                unfinished.rename(path)
        return msgspec.json.decode(path.read_bytes(), type=_Answer)


def _run(ask: Ask) -> _Answer:
    done = subprocess.run(
        ask.command(), cwd=ask.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode in (0, 1, UNCONFIRMED_STATUS):
        return _Answer(msgspec.json.decode(done.stdout, type=Report))
    if done.returncode == 130:
        raise KeyboardInterrupt
    why = done.stderr.strip() or f"vfio-verify ended with status {done.returncode}"
    return _Answer(refusal=why)


class Outcome(Struct, frozen=True):
    """How a clause fared: the kind of outcome, and what is to be said of it."""

    kind: Literal["passed", "failed", "skipped", "advice"]
    text: str = ""


def outcome(report: Report, name: str) -> Outcome:
    """What a report says of one clause. One that was seen violated and is not confirmed fails: it must not pass unseen.
    So does every clause where nothing was judged."""
    if report.verdict is None:
        return Outcome("failed", f"{name}: nothing was judged, and there is no verdict")
    entry = next(entry for entry in report.clauses if entry.id == name)
    clause = clauses()[name]
    if entry.status == "holds":
        return Outcome("passed")
    if entry.status == "not exercised":
        return Outcome("skipped", f"{name} not exercised: {report.why_not_exercised}")
    if entry.status == "unconfirmed":
        told = [one.told for one in report.unconfirmed if one.clause == name]
        return Outcome("failed" if clause.fails_a_check else "advice", "\n".join([f"{name} is unconfirmed", *told]))
    return Outcome("failed" if clause.fails_a_check else "advice", _violations_text(report, name))


def _violations_text(report: Report, name: str) -> str:
    subject = report.subject
    place = f"\n{subject.place}" if subject.place else ""
    out = io.StringIO()
    print_clause(report, name, Console(file=out, width=_WIDTH, highlight=False, markup=False, emoji=False))
    return harmless(f"{subject.shown} violates {name}{place}\n{report.extent}\n\n{out.getvalue().rstrip()}")
