"""Decides each clause for every value at once: what becomes of CBMC's answers.

A refutation is an input, which is made a case and run for real. It is a finding if that run shows the clause violated.
If it does not, the model and the harness disagree: one of them is wrong, and nothing is told of the subject.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from msgspec import Struct

from vfio_verify.judge import Violation
from vfio_verify.prove import cbmc as solver
from vfio_verify.prove.cbmc import (
    LEFT,
    Builder,
    Cbmc,
    Failed,
    NotNeededError,
    OutOfMemoryError,
    OutOfTimeError,
    Solvers,
    TakesLongError,
)
from vfio_verify.prove.given import case_of
from vfio_verify.prove.plan import Part, plan
from vfio_verify.prove.programs import PROGRAM, Programs
from vfio_verify.prove.proof import (
    DISAGREE,
    INTERRUPTED,
    NO_ERRP,
    OUT_OF_MEMORY,
    OUT_OF_TIME,
    Options,
    Proof,
    Query,
    provable,
)
from vfio_verify.prove.real_runs import Disagreement, RealRuns, confirmed
from vfio_verify.prove.text import text_of
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.findings import Seen, told
from vfio_verify.trial.runner import open_runner
from vfio_verify.values.spec import clauses
from vfio_verify.worker.leftovers import private_directory

FOLLOWED = "memory is read or written of which the model has no bytes"
_NO_BYTES = re.compile(
    r"dereference failure: (?:pointer NULL|invalid integer address)|mem(?:cpy|move|cmp) .*\b(?:read|write)able"
)
"""What CBMC says of a pointer to memory of the host, which is a number to it. A real run tells it from NULL."""


def prove(
    subject: Subject, options: Options, program: Cbmc, on_found: Callable[[Violation], None] = lambda _: None
) -> Proof:
    """Decide clauses. `on_found` is told of each violated clause once, as soon as a real run has shown it.

    Ctrl-C ends it early: what is decided so far is in the result. Raises InputError for C that CBMC cannot read.
    """
    begun = time.monotonic()
    asked = options.clauses or provable()
    with ExitStack() as stack:
        model = Path(stack.enter_context(as_file(files("vfio_verify.specs") / "model")))
        include = Path(stack.enter_context(as_file(files("vfio_verify") / "include")))
        directory = Path(stack.enter_context(private_directory()))
        solvers = Solvers(options.seconds)
        stack.callback(solvers.end)
        builder = Builder(program, directory, solvers)
        text = text_of(subject, model)
        work = _Work(subject, asked, Programs(builder, subject, text, options, model=model, include=include))
        real: RealRuns | None = None
        try:
            work.programs.read_subject()
            runner = stack.enter_context(open_runner(subject, parts=options.parts))
            real = RealRuns(subject, runner, on_found)
            work.run(deque(plan(asked, options.segments, subject)), options.jobs, real)
            found = confirmed(runner, real.shown.values())
        except OutOfTimeError:
            found = [], []
        except KeyboardInterrupt:
            work.interrupted = True
            found = [], list(real.shown.values()) if real else []
    findings, unconfirmed = told(found[0], Seen()), found[1]
    violated = {clause for one in findings for clause in one.clauses}
    left = [clause for clause in asked if clause not in violated]
    for one in found[0]:
        work.leave(set(one.clauses) - violated, "what violates it is told under another clause")
    stopped = INTERRUPTED if work.interrupted else OUT_OF_TIME
    of_unit, of_model = text.digests(model, PROGRAM)
    return Proof(
        options=options,
        version=program.version,
        unit=of_unit,
        model=of_model,
        proved=frozenset(clause for clause in left if work.is_proved(clause)),
        why={clause: work.why.get(clause, stopped) for clause in left if not work.is_proved(clause)},
        confirmed=findings,
        unconfirmed=tuple(unconfirmed),
        disagreements=tuple(work.disagreements),
        queries=tuple(work.queries),
        runs=real.runs if real else 0,
        seconds=time.monotonic() - begun,
        interrupted=work.interrupted,
    )


class _Asking(Struct):
    """How a part is asked about, after what was answered."""

    left: bool = True
    unwinding: bool = True
    """Whether it is asked if the subject does what the model does not have, and if a loop goes on for too long."""
    assumed: bool = False
    """Whether runs in which the subject follows a bad pointer are left out."""
    alone: frozenset[str] = frozenset()
    """What calls by themselves violate, which REPEATABLE does not say again."""
    why_no_proof: str = ""
    """Why what is not refuted is not proved."""

    def no_proof(self, why: str) -> None:
        self.why_no_proof = self.why_no_proof or why


class _Work:
    """What is known while the parts are decided."""

    def __init__(self, subject: Subject, asked: Collection[str], programs: Programs) -> None:
        self.programs = programs
        self.subject = subject
        self.asked = asked
        self.why: dict[str, str] = {}
        self.gone: set[str] = set()
        """Clauses that need no further answer: they are refuted, or cannot be decided."""
        self.open: dict[str, int] = {}
        """How many parts of a clause are still to be decided."""
        self.disagreements: list[Disagreement] = []
        self.queries: list[Query] = []
        self.interrupted = False
        self._refutations: queue.Queue[Any] = queue.Queue()

    def is_proved(self, clause: str) -> bool:
        return self.open.get(clause) == 0 and clause not in self.gone and clause not in self.why

    def leave(self, clauses: Collection[str], why: str) -> None:
        """Give clauses up."""
        for clause in clauses:
            self.why.setdefault(clause, why)
            self.gone.add(clause)

    def run(self, parts: deque[Part], jobs: int, real: RealRuns) -> None:
        """Decide all parts, `jobs` at a time, and run in this thread what refutes a clause."""
        for clause in self.asked:
            self.open[clause] = sum(clause in part.clauses for part in parts)
            for one in self.programs.passed_over:
                if one.concerns(clause):
                    self.leave([clause], one.why)
        if not self.subject.has_errp and "ERROR_SET" in self.asked:
            self.leave(["ERROR_SET"], NO_ERRP)
        threads = [threading.Thread(target=self._work, args=(parts,)) for _ in range(max(1, min(jobs, len(parts))))]
        with _all_ended(threads, self.programs.builder.solvers, self._refutations):
            for thread in threads:
                thread.start()
            working = len(threads)
            while working:
                item = self._refutations.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    working -= 1
                else:
                    part, failed, assumed, answer = item
                    try:
                        answer.set_result(self._run_for_real(part, failed, assumed, real))
                    except BaseException:
                        answer.cancel()
                        raise
                    self.programs.builder.solvers.drop(self.gone)

    def _work(self, parts: deque[Part]) -> None:
        try:
            while parts:
                try:
                    part = parts.popleft()
                except IndexError:
                    break
                self._decide(part)
        except (OutOfTimeError, CancelledError):
            pass  # all that is left is not decided
        except BaseException as error:  # noqa: BLE001  # it is raised where the results are waited for
            self._refutations.put(error)
        self._refutations.put(None)

    def _decide(self, part: Part) -> None:
        """Ask until nothing is left that fails."""
        begun = time.monotonic()
        how = _Asking()
        while asked := [clause for clause in part.clauses if clause not in self.gone]:
            how.assumed = how.assumed or "SURVIVES" in self.gone
            try:
                failed = self._ask(part, how, asked)
            except NotNeededError:
                continue
            except OutOfMemoryError:
                self.leave(asked, OUT_OF_MEMORY)
                break
            if failed is None:
                if how.why_no_proof:
                    self.leave(asked, how.why_no_proof)
                break
            if ".no-body." in failed.name:
                name = failed.description.rpartition(" ")[2]
                self.leave(asked, f"{name}() is not in the model, {_place(failed)}")
            elif _goes_on(failed):
                how.unwinding = False
                how.no_proof(f"a loop of more than {self.programs.rounds - 1} rounds, {_place(failed)}")
                self._run(part, failed, how.assumed)
            elif failed.description.startswith(LEFT):
                how.left = False
                how.no_proof(f"the model does not have {failed.description.removeprefix(LEFT)}")
            else:
                self._refuted(part, failed, how)
        for clause in part.clauses:
            self.open[clause] -= 1
        fared = {clause: self._fared(clause) for clause in part.clauses}
        self.queries.append(Query(part.name, fared, round(time.monotonic() - begun, 1)))

    def _ask(self, part: Part, how: _Asking, clauses: Collection[str], *, small: bool = False) -> Failed | None:
        """What fails of a part; with `small`, of these clauses alone, for buffers that every machine can map. Raises
        what `solver.ask` does."""
        survives = not (small or how.assumed) and self._follows_pointers(part)
        for way in solver.ways():
            program = self.programs.of(
                part, assumed=how.assumed, alone=how.alone, small=small, subject_first=way.subject_first
            )
            with suppress(TakesLongError):
                return solver.ask(
                    self.programs.builder,
                    program,
                    solver.asked_of(program, clauses, left=how.left and not small, survives=survives),
                    way,
                    clauses=() if small else clauses,
                    rounds=self.programs.rounds,
                    unwinding=how.unwinding and not small,
                )
        raise AssertionError

    def _refuted(self, part: Part, failed: Failed, how: _Asking) -> None:
        """Run what refutes a clause, and say how to ask on."""
        shown, against = self._run(part, failed, how.assumed)
        if against is not None and against.clause in part.clauses and not (part.calls > 1 and shown):
            # What a machine cannot map for want of memory shows nothing. A smaller buffer may.
            smaller = self._ask(part, how, [against.clause], small=True)
            if smaller is not None:
                shown, against = self._run(part, smaller, how.assumed)
        if part.calls > 1 and shown - how.alone - {"REPEATABLE"}:
            how.alone |= shown
            return
        if part.calls > 1 and shown and against is not None:
            against = None  # the run goes no further than to what a call does wrong by itself
            self.leave(["REPEATABLE"], "a call by itself violates another clause")
        if against is not None:
            self.disagreements.append(against)
            self.leave([against.clause], DISAGREE)
        if _is_check_of_c(failed) and "SURVIVES" not in shown:
            how.no_proof(_unseen(failed))
        how.assumed = how.assumed or "SURVIVES" in shown or _is_check_of_c(failed)

    def _follows_pointers(self, part: Part) -> bool:
        """Whether it is asked of this part that the subject follows no bad pointer, on which what else is proved of it
        rests. Of the well-formed layouts another part asks it, if that is to be decided."""
        return not part.valid or "SURVIVES" not in self.asked

    def _run(self, part: Part, failed: Failed, assumed: bool) -> tuple[set[str], Disagreement | None]:
        """Have a refutation run by the thread that has the worker."""
        answer: Future[tuple[set[str], Disagreement | None]] = Future()
        self._refutations.put((part, failed, assumed, answer))
        return answer.result()

    def _fared(self, clause: str) -> str:
        return (
            f"not decided: {self.why[clause]}" if clause in self.why else "refuted" if clause in self.gone else "proved"
        )

    def _run_for_real(
        self, part: Part, failed: Failed, assumed: bool, real: RealRuns
    ) -> tuple[set[str], Disagreement | None]:
        """Run what refutes a clause. The clauses that the run shows violated, and what it says against the model."""
        clause = "SURVIVES" if _is_check_of_c(failed) else failed.description
        case = self.subject.adapt(case_of(part.whole(failed.given), part.bounds))
        shown, seen = real.run(case)
        self.gone |= shown
        if _goes_on(failed):
            return shown, None
        # Where the call does not live to show it, the clause is asked about again, of calls that do.
        if clause in shown or ("SURVIVES" in shown and not assumed):
            return shown, None
        if _is_check_of_c(failed):
            self.leave([clause], _unseen(failed))
            return shown, None
        return shown, Disagreement(clause, clause, seen, case)


@contextmanager
def _all_ended(threads: Sequence[threading.Thread], solvers: Solvers, waiting: queue.Queue[Any]) -> Iterator[None]:
    """End the solvers and the threads that wait for them, if what is done meanwhile is cut short."""
    try:
        yield
    except BaseException:
        solvers.end()
        while any(thread.is_alive() for thread in threads):
            try:
                item = waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(item, tuple):
                item[-1].cancel()
        raise


def _goes_on(failed: Failed) -> bool:
    """Whether a loop may run more often than it was unwound: for ever, or just longer."""
    return ".unwind." in failed.name


def _is_check_of_c(failed: Failed) -> bool:
    """Whether it is one of CBMC's own, of what C leaves undefined, and none of the model's."""
    return failed.description not in clauses()


def _unseen(failed: Failed) -> str:
    """What is said of such a one that a real run does not show: what is written over may be of no consequence there."""
    what = FOLLOWED if _NO_BYTES.match(failed.description) else f"{failed.description}, which a real run does not show"
    return f"{what}, {_place(failed)}"


def _place(failed: Failed) -> str:
    return f"{failed.file.rpartition('/')[2]}:{failed.line}"
