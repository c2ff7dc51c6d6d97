"""Campaigns for pytest: one for each subject and session, however many tests and processes of xdist ask for it.

A campaign is what `vfio-verify check` does, in a process of its own: Hypothesis's settings and its state in the process
of the tests are the user's.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from vfio_verify.report.outlet import harmless
from vfio_verify.report.report import UNCONFIRMED_STATUS, Report
from vfio_verify.report.text import violation_text
from vfio_verify.values.case import Policy
from vfio_verify.values.spec import clauses

_WIDTH = 80


class Ask(Struct, frozen=True):
    """A question: what is checked, and how."""

    subject: str
    """Its name as a user in `directory` would give it."""
    directory: str
    function: str | None = None
    policy: Policy = "same-block"
    examples: int = 1000
    seed: int = 0

    def command(self) -> list[str]:
        """The command that answers it with a report on its standard output."""
        function = [] if self.function is None else ["--function", self.function]
        options = [*function, "--policy", self.policy, "--examples", str(self.examples), "--seed", str(self.seed)]
        # -P: what lies in the working directory must not stand in for a module.
        return [sys.executable, "-P", "-m", "vfio_verify", "check", *options, "--json", "-", "--", self.subject]

    def key(self) -> str:
        """A digest of the question and of the contents of the subject's file."""
        path = Path(self.directory, self.subject)
        contents = path.read_bytes() if path.is_file() else b""
        return hashlib.sha256(msgspec.json.encode(self) + contents).hexdigest()


class Answer(Struct, frozen=True):
    """A report, or why there is none."""

    report: Report | None = None
    refusal: str = ""


def check(ask: Ask, directory: Path) -> Answer:
    """Run a campaign, or wait for the process that does. All processes of a session share its answer by a file in
    `directory`, which is made when it is needed."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{ask.key()}.json"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, by the end of the process at the latest
        if not path.exists():
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(msgspec.json.encode(_run(ask)))
            unfinished.rename(path)
    return msgspec.json.decode(path.read_bytes(), type=Answer)


def _run(ask: Ask) -> Answer:
    done = subprocess.run(
        ask.command(), cwd=ask.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode in (0, 1, UNCONFIRMED_STATUS):
        return Answer(msgspec.json.decode(done.stdout, type=Report))
    if done.returncode == 130:
        raise KeyboardInterrupt
    return Answer(refusal=done.stderr.strip() or f"vfio-verify ended with status {done.returncode}")


class Outcome(Struct, frozen=True):
    """What becomes of a clause's test, and what it says."""

    kind: Literal["passed", "failed", "skipped", "advice"]
    text: str = ""


def outcome(report: Report, name: str) -> Outcome:
    """The outcome of one clause. A clause that was seen violated but is not confirmed fails: it must not pass unseen.
    So does every clause if nothing was judged."""
    if report.verdict is None:
        return Outcome("failed", f"{name}: nothing was judged")
    entry = next(entry for entry in report.clauses if entry.id == name)
    if entry.status == "holds":
        return Outcome("passed")
    if entry.status == "not exercised":
        return Outcome("skipped", f"{name} not exercised: {report.why_not_exercised(name)}")
    if entry.status == "unconfirmed":
        text = "\n".join([f"{name} is unconfirmed", *(one.told for one in report.unconfirmed if one.clause == name)])
    else:
        text = _violations_text(report, name)
    return Outcome("failed" if clauses()[name].fails_a_check else "advice", text)


def _violations_text(report: Report, name: str) -> str:
    subject = report.subject
    place = f"\n{subject.place}" if subject.place else ""
    blocks = [
        violation_text(number, violation, report, _WIDTH)
        for number, violation in enumerate(report.violations, 1)
        if name in violation.clauses
    ]
    return harmless(f"{subject.shown} violates {name}{place}\n{report.extent}\n\n{''.join(blocks).rstrip()}")
