"""A check: a campaign over many layouts, whose shards' results are added up, confirmed and told; or a single case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import Interrupts, LostProcessError, Pool
from vfio_verify.campaign.shard import ShardResult, open_runner_for, run_kernel_faults, run_shard_on_each, unconfined
from vfio_verify.campaign.shards import shards
from vfio_verify.campaign.tally import LOST, Tally
from vfio_verify.generate.kernel_faults import KernelRuns, account, layouts_again, permitted, reasons_against, why_not
from vfio_verify.judge import Verdict, Violation
from vfio_verify.judge.attribution import key
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidates, first
from vfio_verify.trial.findings import to_confirm, told
from vfio_verify.trial.going_on import found_conventions
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import Case, KernelFaultKind
from vfio_verify.values.cause import Key
from vfio_verify.values.features import features

if TYPE_CHECKING:
    from vfio_verify.trial.confirm import Confirmation

_RUNS_OF_CASE = 3
"""More runs of a single case, in one of which what it has shown must come again."""


class Result(Struct, frozen=True):
    """What a check found: one violation for each clause and cause. Those in `unconfirmed` did not come again; those in
    `untried` were not run again, since the check was interrupted."""

    tally: Tally = field(default_factory=Tally)
    confirmed: tuple[Violation, ...] = ()
    unconfirmed: tuple[Violation, ...] = ()
    untried: tuple[Violation, ...] = ()
    interrupted: bool = False
    unconfined: tuple[str, ...] = ()
    """A line for each feature of the sandbox that was missing."""
    kernel_faults: tuple[KernelRuns, ...] = ()
    behind: Behind | None = None
    """What lies behind the first fault, if that has every layout refused."""


class Behind(Struct, frozen=True):
    """What a check finds of a subject in a world with the conventions by which it goes on. It counts for nothing that
    is told of the subject in QEMU's own world."""

    subject: Subject
    """With the conventions that are assumed."""
    result: Result


def check(
    subject: Subject,
    options: Options,
    on_candidate: Callable[[Violation], None] = lambda _: None,
    why_no_kernel_fault: Callable[[KernelFaultKind], str | None] = why_not,
    executor: Executor | None = None,
) -> Result:
    """Run a campaign, and another one behind the first fault of a subject that maps nothing. `on_candidate` is told of
    each violated clause once in either, as soon as it is met and before it is minimized. `why_no_kernel_fault` says why
    this machine does not permit a kind. The work is done by the executor if one is given, whose number of processes is
    its own, and else by `jobs` processes here.

    Ctrl-C ends it early: what was found so far is in the result, which is then marked as interrupted. A process that is
    lost costs what it was at work on: the result says so.
    """
    with Pool(options.jobs, executor, tasks=sum(1 for _ in shards(options))) as pool:

        def run(subject: Subject, options: Options) -> Result:
            (result,) = check_each((subject,), options, pool, lambda _, found: on_candidate(found), why_no_kernel_fault)
            return result

        result = run(subject, options)
        return replace(result, behind=_look_behind(subject, options, run)) if _is_stuck(subject, result) else result


def _is_stuck(subject: Subject, result: Result) -> bool:
    """Whether a fault of the subject keeps what lies behind it from being judged."""
    refused = any("ACCEPTS_VALID" in violation.clauses for violation in result.confirmed)
    is_whole = not result.interrupted and LOST not in result.tally.left_out
    return refused and not result.tally.mapped and is_whole and not subject.assume


def _look_behind(subject: Subject, options: Options, run: Callable[[Subject, Options], Result]) -> Behind | None:
    """What a campaign finds under the conventions by which the subject goes on; None if there are none. After Ctrl-C
    it is what was found so far."""
    with Interrupts() as interrupts:
        interrupts.deferred = True  # where the campaign itself does not listen
        with open_runner_for(subject, options) as runner:
            assume = found_conventions(runner)
        if assume is None:
            return None
        assuming = replace(subject, assume=assume)
        try:
            interrupts.raise_if_asked()
            return Behind(assuming, run(assuming, replace(options, observe=None)))
        except KeyboardInterrupt:
            return Behind(assuming, Result(interrupted=True))
        except LostProcessError:
            return Behind(assuming, Result(tally=Tally(left_out={LOST: 1})))


def check_each(
    subjects: Sequence[Subject],
    options: Options,
    pool: Pool,
    on_candidate: Callable[[int, Violation], None],
    why_no_kernel_fault: Callable[[KernelFaultKind], str | None] = why_not,
) -> list[Result]:
    """Run one campaign on several subjects: each layout is drawn once, and run on all of them. The results are those of
    a check of each. `on_candidate` is told the position of the subject, too."""
    again = layouts_again(options.examples)
    merged = [_Merged(partial(on_candidate, number), again) for number in range(len(subjects))]
    tasks = [(subjects, options, part) for part in shards(options)]
    reasons = reasons_against(why_no_kernel_fault)
    shared_out = _shared_out(permitted(reasons))
    interrupted = False
    done: dict[tuple[int, Key], Confirmation] = {}

    def add(results: Sequence[ShardResult]) -> None:
        for one, result in zip(merged, results, strict=True):
            one.add(result)

    with Interrupts() as interrupts, ExitStack() as stack:
        try:
            interrupts.deferred = pool.is_here
            try:
                # To start a worker takes longer than many a task: those that are run in this process share one for each
                # subject. To confirm is left to another, to which nothing happened before.
                here_only = subjects if pool.is_here else ()
                shared = tuple(stack.enter_context(open_runner_for(subject, options)) for subject in here_only)
                here = {"between_layouts": interrupts.raise_if_asked, "shared": shared}
                faulty: Iterator[ShardResult] | None = None
                for number, results in enumerate(pool.map(run_shard_on_each, tasks, **here, cut_short=add), 1):
                    add(results)
                    if faulty is None and (number == len(tasks) or all(one.has_enough_to_run_again for one in merged)):
                        # As soon as may be, so that no process waits for the last shard.
                        last = [
                            (subject, options, one.to_run_again(), some)
                            for subject, one in zip(subjects, merged, strict=True)
                            for some in shared_out
                        ]
                        # In threads, each has a worker of its own.
                        apart = here | {"shared": ()} if pool.has_threads else here
                        faulty = pool.map_beside(run_kernel_faults, last, **apart)
                for number, result in enumerate(faulty or ()):
                    merged[number // len(shared_out)].add(result)
                interrupts.deferred = False
                names = _to_confirm(merged)
                jobs = [(subjects[i], options, merged[i].candidates[name]) for i, name in names]
                done.update(zip(names, pool.map(confirm, jobs), strict=True))
            except LostProcessError:
                if not any(one.total.tally.runs for one in merged):
                    raise
                for one in merged:
                    one.total.tally.leave_out(LOST)
                for i, name in _to_confirm(merged):
                    if (i, name) not in done:
                        done[i, name] = confirm(subjects[i], options, merged[i].candidates[name])
        except KeyboardInterrupt:
            interrupted = True
            pool.kill()
    return [
        _result(subject, one, {name: by for (of, name), by in done.items() if of == i}, reasons, interrupted)
        for i, (subject, one) in enumerate(zip(subjects, merged, strict=True))
    ]


def _to_confirm(merged: Sequence[_Merged]) -> list[tuple[int, Key]]:
    return [(i, name) for i, one in enumerate(merged) for name in one.to_confirm()]


def _result(
    subject: Subject,
    merged: _Merged,
    done: Mapping[Key, Confirmation],
    reasons: dict[KernelFaultKind, str],
    interrupted: bool,
) -> Result:
    confirmed = [one.violation for one in done.values() if one.violation is not None]
    doubtful = {name: first(candidates) for name, candidates in sorted(merged.candidates.items())}
    total, tally = merged.total, merged.total.tally
    return Result(
        tally=tally,
        confirmed=told(confirmed, total.seen, line_of(subject)),
        unconfirmed=tuple(doubtful[name] for name, one in done.items() if one.violation is None),
        untried=tuple(doubtful[name] for some in to_confirm(doubtful) for name in some if name not in done),
        interrupted=interrupted,
        unconfined=total.unconfined,
        kernel_faults=account(tally.kernel_runs, reasons | tally.not_permitted, interrupted=interrupted),
    )


class _Merged:
    """Shard results added up in the order of the shards."""

    def __init__(self, on_candidate: Callable[[Violation], None], again: int) -> None:
        self._on_candidate, self._again = on_candidate, again
        self.total = ShardResult()
        self._heard: set[str] = set()

    @property
    def candidates(self) -> dict[Key, Candidates]:
        return self.total.candidates.found

    def add(self, result: ShardResult) -> None:
        for violation in self.total.add(result):
            # What concurrent calls show may not come again; how many causes a clause has is known at the end.
            if not violation.case.concurrent and violation.clause not in self._heard:
                self._heard.add(violation.clause)
                self._on_candidate(violation)

    def to_confirm(self) -> list[Key]:
        names, _ = to_confirm({name: first(one) for name, one in self.candidates.items()})
        return names

    @property
    def has_enough_to_run_again(self) -> bool:
        """Whether further shards would add nothing to `to_run_again`."""
        return len(self.total.mapped) >= self._again

    def to_run_again(self) -> tuple[Case, ...]:
        """Layouts for kernel faults: those with few segments and with many first."""
        by_length = [self.total.mapped[length] for length in sorted(self.total.mapped)]
        half = self._again // 2
        return tuple(by_length[:half] + by_length[half:][-half:])


def _shared_out(kinds: Sequence[KernelFaultKind]) -> list[list[KernelFaultKind]]:
    """Kernel faults for two processes: to fill the limit of mappings takes as long as all else."""
    dear: list[KernelFaultKind] = [kind for kind in kinds if kind == "map_count"]
    return [some for some in (dear, [kind for kind in kinds if kind not in dear]) if some]


def line_of(subject: Subject) -> Callable[[int], str | None]:
    """Names a place in the subject's code by its line."""

    def name(place: int) -> str | None:
        line = subject.line_at(place)
        return None if line is None else f"{line.file.rpartition('/')[2]}:{line.line}"

    return name


def confirm(subject: Subject, options: Options, candidates: Candidates) -> Confirmation:
    """Confirm one of a key's candidates in a fresh process and minimize its case."""
    # Imported late: what minimizes cases is much, and a subject that conforms needs none of it.
    from vfio_verify.trial.confirm import confirm_and_minimize

    with open_runner_for(subject, options) as runner:
        return confirm_and_minimize(runner, candidates.values())


# ---- a single case ----------------------------------------------------------------------------------------------


def check_case(subject: Subject, options: Options, case: Case) -> Result:
    """Judge one case as it is, with its fault plan and earlier calls. What it shows must come again."""
    case = subject.adapt(case)
    tally = Tally(layouts=1, runs=1, features=dict.fromkeys(features(case), 1))
    with open_runner_for(subject, options) as runner:
        if case.concurrent:
            from vfio_verify.trial.confirm import seen_concurrent

            verdict, shown_again = seen_concurrent(runner, case)
            confirmed = tuple(again for _, again in shown_again if again is not None)
            unconfirmed = tuple(one for one, again in shown_again if again is None)
        else:
            seen, verdict = runner.run_and_judge(case)
            confirmed, unconfirmed = _come_again(runner, case, verdict)
            tally.sampled = int(seen.pages_compared < seen.pages_total)
        tally.covered = runner.worker.covered()
        tally.checked = dict.fromkeys(verdict.checked, 1)
        missing = unconfined(runner, options)
    return Result(tally, confirmed, unconfirmed, unconfined=missing)


def _come_again(runner: Runner, case: Case, verdict: Verdict) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
    """What one of a few more runs shows again, each in a fresh process, and what none does."""
    left = {key(violation): violation for violation in verdict.violations}
    again: set[Key] = set()
    for _ in range(_RUNS_OF_CASE):
        if again >= left.keys():
            break
        runner.worker.renew()
        _, other = runner.run_and_judge(case)
        again |= set(map(key, other.violations))
    return (
        tuple(violation for name, violation in left.items() if name in again),
        tuple(violation for name, violation in left.items() if name not in again),
    )
