"""All of a small scope, run natively (specs/model/exhaust.c): needs no CBMC, and proves nothing beyond the scope."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from subprocess import Popen

from vfio_verify.judge import Violation
from vfio_verify.prove import native
from vfio_verify.prove.given import Bounds, case_of
from vfio_verify.prove.names import MODEL
from vfio_verify.prove.native import Found, Hangs, Left, Program, Progress
from vfio_verify.prove.proof import DISAGREE, INTERRUPTED, NO_ERRP, OUT_OF_TIME, Options, Proof, provable
from vfio_verify.prove.real_runs import Disagreement, RealRuns, confirmed
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.findings import Seen, told
from vfio_verify.trial.runner import open_runner
from vfio_verify.values.words import number_of
from vfio_verify.worker.children import end
from vfio_verify.worker.leftovers import private_directory

_FAULTS, _CALLS, _WATCHED = 2, 2, 40


def exhaust(
    subject: Subject,
    options: Options,
    on_found: Callable[[Violation], None] = lambda _: None,
    on_progress: Callable[[int, float], None] = lambda _inputs, _part: None,
) -> Proof:
    """Run every input of the scope. The first one that violates a clause is run for real; `on_found` is told if that
    shows it. `on_progress` is told how many inputs were run, and which part of the scope is done.

    Ends when the time is up, or by Ctrl-C, with what is known by then. Raises InputError for a subject that
    calls what the model does not have.
    """
    begun = time.monotonic()
    until = None if options.seconds is None else begun + options.seconds
    bounds = Bounds(options.segments, _FAULTS, _CALLS, _WATCHED)
    asked = options.clauses or provable()
    disagreements: list[Disagreement] = []
    interrupted = False
    with ExitStack() as stack:
        model = Path(stack.enter_context(as_file(files("vfio_verify.specs") / "model")))
        directory = Path(stack.enter_context(private_directory()))
        program = native.build(subject, directory, bounds, options.parts)
        runner = stack.enter_context(open_runner(subject, parts=options.parts))
        real = RealRuns(subject, runner, on_found)
        search = _Search(program, options.segments, options.jobs)
        try:
            for one in search.told(until):
                if isinstance(one, Found):
                    _run_for_real(one, asked, bounds, real, disagreements)
                on_progress(search.inputs, search.done)
            search.end()
            found = confirmed(runner, real.shown.values())
        except KeyboardInterrupt:
            interrupted, found = True, ([], list(real.shown.values()))
        finally:
            search.end()
    findings = told(found[0], Seen())
    violated = {clause for one in findings for clause in one.clauses}
    why = {one.clause: DISAGREE for one in disagreements if one.clause not in violated}
    if not subject.has_errp:
        why["ERROR_SET"] = NO_ERRP
    whole = f"for {number_of(search.left, 'input')}, the model does not have {search.why_left}" if search.left else ""
    if search.done < 1 or search.why_not_whole:
        whole = search.why_not_whole or (INTERRUPTED if interrupted else OUT_OF_TIME)
    if whole:
        why = {clause: whole for clause in asked if clause not in violated} | why
    of_unit, of_model = program.text.digests(model, (*MODEL, *native.PROGRAM))
    return Proof(
        options=options,
        version="",
        unit=of_unit,
        model=of_model,
        proved=frozenset(clause for clause in asked if clause not in violated and clause not in why),
        why={clause: text for clause, text in why.items() if clause in asked},
        confirmed=findings,
        unconfirmed=tuple(found[1]),
        disagreements=tuple(disagreements),
        runs=real.runs,
        inputs=search.inputs,
        seconds=time.monotonic() - begun,
        interrupted=interrupted,
    )


def _run_for_real(
    found: Found, asked: Collection[str], bounds: Bounds, real: RealRuns, disagreements: list[Disagreement]
) -> None:
    """Run an input for its clauses that no other has shown."""
    case = real.subject.adapt(case_of(found.given, bounds))
    if new := sorted(found.clauses & set(asked) - real.clauses):
        shown, seen = real.run(case)
        # Where the call does not live to show it, it shows that.
        if "SURVIVES" not in shown:
            disagreements += [Disagreement(clause, clause, seen, case) for clause in new if clause not in shown]


class _Search:
    """The programs that share out the scope, and what they tell."""

    def __init__(self, program: Program, segments: int, jobs: int) -> None:
        self._progress = [Progress(0, 0, 0, 1)] * jobs
        self._processes: set[Popen[bytes]] = set()
        self._queue: queue.Queue[tuple[int, Found | Left | Hangs | Progress | BaseException | None]] = queue.Queue()
        self.hangs = self.damaged = False
        self.why_left = ""

        def run(number: int) -> None:
            try:
                for one in native.exhaust(program, segments, number, jobs, self._processes):
                    self._queue.put((number, one))
            except native.DamagedError:
                self.damaged = True
            except BaseException as error:  # noqa: BLE001  # it is raised where the results are waited for
                self._queue.put((number, error))
            self._queue.put((number, None))

        self._threads = [threading.Thread(target=run, args=(number,)) for number in range(jobs)]

    @property
    def inputs(self) -> int:
        return sum(one.runs for one in self._progress)

    @property
    def left(self) -> int:
        return sum(one.left for one in self._progress)

    @property
    def done(self) -> float:
        """The part of the scope that is done: 1 is all of it."""
        return sum(one.done for one in self._progress) / max(1, sum(one.of for one in self._progress))

    @property
    def why_not_whole(self) -> str:
        """What of the subject's doing keeps it from being run whole, if anything."""
        if self.damaged:
            return "the program ends or falls silent: the subject may write over it"
        return "it hangs too often" if self.hangs else ""

    def told(self, until: float | None) -> Iterator[Found | Progress]:
        """Start the programs. What they tell, until they end or the time is up."""
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            try:
                number, one = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(one, BaseException):
                raise one
            if one is None:
                working -= 1
            elif isinstance(one, Hangs):
                self.hangs = True
            elif isinstance(one, Left):
                self.why_left = one.why
            else:
                if isinstance(one, Progress):
                    self._progress[number] = one
                yield one

    def end(self) -> None:
        """End the programs, if they run."""
        while any(thread.is_alive() for thread in self._threads):
            for process in list(self._processes):
                end(process)
            time.sleep(0.01)
