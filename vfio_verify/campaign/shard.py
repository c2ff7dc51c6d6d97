"""A campaign: many layouts, each with all its fault positions, judged; what is violated, shrunk and confirmed.

The work is cut into shards. A shard's seed and size follow from the campaign's alone, and each shard begins with a
fresh worker, so the result is the same with any number of jobs.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from vfio_verify.campaign.frontier import Frontier, Pioneer
from vfio_verify.campaign.pool import Interrupts, LostProcessError, Pool
from vfio_verify.errors import NotPermittedError
from vfio_verify.generate.concurrent import concurrent_cases, suits
from vfio_verify.generate.distribution import Tally
from vfio_verify.generate.kernel_faults import (
    FEW,
    LAYOUTS,
    KernelRuns,
    account,
    kernel_cases,
    layouts_again,
    long_case,
    permitted,
    reasons_against,
    why_not,
)
from vfio_verify.generate.layouts import larger_than, off_by_4_gib, sums_past_4_gib
from vfio_verify.generate.long_lists import long_list
from vfio_verify.generate.malformed import malformed
from vfio_verify.generate.sweep import fault_plans, pair_plans
from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.attribution import Key, key
from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidates, CandidateTable
from vfio_verify.trial.findings import Seen, to_confirm, told
from vfio_verify.trial.hangs import HangBudget, hung
from vfio_verify.trial.minimize import Confirmation, seen_concurrent, settle_any
from vfio_verify.trial.runner import judge_steps, run_and_judge
from vfio_verify.values.case import Case, Fault, KernelFaultKind, Policy
from vfio_verify.values.features import features
from vfio_verify.values.model import Expectation, expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker.process import either
from vfio_verify.worker.sandbox import OFF_NOTE, SandboxFeature
from vfio_verify.worker.worker import Past, Ran, Worker

if TYPE_CHECKING:
    from vfio_verify.campaign.observability import Observer

T = TypeVar("T")

_PIECE_BYTES, _RUN_BYTES = 2 << 20, 4096
"""Of observations held at once, and of one of them besides its trace."""

_CONCURRENT_LAYOUTS, _CONCURRENT_ROUNDS = 2, 24
"""Well-formed layouts of a shard that are mapped by several threads at once, and the rounds of each such case."""
_SMALL_SHARD = 100
"""Layouts of a shard below which only one is: the concurrent calls would take longer than all else."""

_SEQUENCE_EVERY = 16
"""Layouts: of one in so many the world is used for a sequence too."""

_HANGS: dict[str, tuple[int, int]] = {
    "layouts": (1, 8),
    "sequences": (1, 2),
    "concurrent calls": (1, 0),
    "kernel faults": (1, 2),
}
"""Of each part of a shard, the hangs that are waited for to the end, which takes seconds, and those given up before."""

_FIRST_HANGS = 2
"""The same, of layouts of the first shard, waited for to the end."""

_RUNS_OF_CASE = 3
"""In which what a case that is judged alone has shown must come again, at least once."""

_MAX_HANGS_OF_LAYOUT, _MAX_DEATHS_OF_LAYOUT = 2, 16
"""After which the rest of a layout's fault positions is left out. Deaths count where it ends the process without a
fault, too."""


class Options(Struct, frozen=True):
    """What a check is asked to do. `examples` counts layouts; each is run under all its fault positions too."""

    examples: int = 1000
    seed: int = 0
    policy: Policy = "same-block"
    jobs: int = 1
    parse_maps: bool = False
    sandbox: bool = True
    lacking: SandboxFeature = SandboxFeature.NONE
    """Features of the sandbox to go without, as on a kernel that lacks them."""
    observe: str | None = None
    """The directory for Hypothesis's observations of each layout."""

    @property
    def parts(self) -> SandboxFeature:
        """The parts of the sandbox to use."""
        return SandboxFeature.ALL & ~self.lacking if self.sandbox else SandboxFeature.NONE


class ShardResult(Struct, frozen=True):
    """What one shard saw: how often each clause was exercised, and the smallest case of each way of violating one."""

    layouts: int
    runs: int
    checked: dict[str, int]
    candidates: dict[Key, Candidates]
    hangs: int
    sampled: int
    unconfined: tuple[str, ...] = ()
    mapped: tuple[Case, ...] = ()
    """Layouts to be run under kernel faults: of up to `FEW` segments, each of another number of them."""
    kernel_runs: dict[str, int] = {}
    not_permitted: dict[str, str] = {}
    features: dict[str, int] = {}
    deaths: int = 0
    """Processes that the subject ended, hangs included."""
    seen: Seen = field(default_factory=Seen)
    covered: bytes = b""
    """What of the subject's code ran: `Worker.covered`."""
    pioneers: tuple[Pioneer, ...] = ()
    """Cases that were the first to reach some of it, where that is asked for."""
    left_out: dict[str, int] = {}
    """What was not run since the subject hangs, or ends each process: of each part of the work, how much."""


def together(one: ShardResult, other: ShardResult) -> ShardResult:
    """Two results added up. Where both have a layout to run again, it is the first's."""
    mapped = {len(case.iovec): case for case in other.mapped} | {len(case.iovec): case for case in one.mapped}
    candidates = CandidateTable()
    for result in (one, other):
        candidates.merge(result.candidates)
    return ShardResult(
        layouts=one.layouts + other.layouts,
        runs=one.runs + other.runs,
        checked=summed(one.checked, other.checked),
        candidates=candidates.found,
        hangs=one.hangs + other.hangs,
        sampled=one.sampled + other.sampled,
        unconfined=tuple(dict.fromkeys((*one.unconfined, *other.unconfined))),
        mapped=tuple(mapped.values()),
        kernel_runs=summed(one.kernel_runs, other.kernel_runs),
        not_permitted=one.not_permitted | other.not_permitted,
        features=summed(one.features, other.features),
        deaths=one.deaths + other.deaths,
        seen=one.seen.with_others(other.seen),
        covered=either(one.covered, other.covered),
        pioneers=(*one.pioneers, *other.pioneers),
        left_out=summed(one.left_out, other.left_out),
    )


def summed(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Counts added up."""
    return dict(Counter(one) + Counter(other))


class Result(Struct, frozen=True):
    """What a campaign found: one violation for each clause and cause. Those in `unconfirmed` did not come again; those
    in `untried` were not run again, since the campaign was interrupted."""

    layouts: int
    runs: int
    checked: dict[str, int]
    confirmed: tuple[Violation, ...]
    unconfirmed: tuple[Violation, ...]
    interrupted: bool = False
    sampled: int = 0
    """Runs whose contents were compared on a sample."""
    unconfined: tuple[str, ...] = ()
    """A line for each part of the sandbox that was missing."""
    kernel_faults: tuple[KernelRuns, ...] = ()
    features: dict[str, int] = {}
    """How many layouts had each feature, and how many runs each kind of fault."""
    covered: bytes = b""
    """What of the subject's code ran in any run: `Worker.covered`."""
    untried: tuple[Violation, ...] = ()
    left_out: dict[str, int] = {}
    """What was not run: of each part of the work, how much."""


# ---- one shard --------------------------------------------------------------------------------------------


class _Running:
    """Runs layouts on a worker and keeps a few cases of each way of violating a clause."""

    def __init__(
        self,
        subject: Subject,
        options: Options,
        worker: Worker,
        observer: Observer | None = None,
        frontier: Frontier | None = None,
        *,
        is_first: bool = False,
        layouts: int = _SMALL_SHARD,
    ) -> None:
        self._subject, self._options, self._worker, self._observer = subject, options, worker, observer
        self._frontier = frontier
        self.layouts = self.runs = self.hangs = self.sampled = self.deaths = 0
        self.checked: Counter[str] = Counter()
        self._candidates = CandidateTable()
        self._seen = Seen()
        self._zeroed: dict[Key, bool] = {}
        self.tally = Tally()
        self._for_threads: list[Case] = []
        self._most_for_threads = _CONCURRENT_LAYOUTS if layouts >= _SMALL_SHARD else 1
        self.mapped: dict[int, Case] = {}
        self.kernel_runs: Counter[str] = Counter()
        self.not_permitted: dict[str, str] = {}
        self._left_out: Counter[str] = Counter()
        self._budgets = {
            part: HangBudget(worker, _FIRST_HANGS if is_first and part == "layouts" else to_the_end, given_up)
            for part, (to_the_end, given_up) in _HANGS.items()
        }

    def _begins(self, part: str) -> bool:
        """Is there to be one more run of this part? If not, it is counted."""
        if self._budgets[part].is_spent:
            self._left_out[part] += 1
            return False
        self._budgets[part].begin()
        return True

    def _counts(self, part: str, seen: Observation) -> bool:
        """Count a run: is it to be judged? If not, it was given up."""
        self.hangs += hung(seen)
        self.deaths += seen.death is not None or any(step.call and step.call.death for step in seen.steps)
        if self._budgets[part].end(seen):
            return True
        self._left_out["calls given up"] += 1
        return False

    def run_layout(self, drawn: Case) -> None:
        """Run one layout: without a fault, then with a fault at each position."""
        if not self._begins("layouts"):
            return
        case = self._subject.adapt(drawn)
        expected = expect(case, self._options.policy)
        self.layouts += 1
        self.tally.layout(case)
        (ran,) = self._worker.runs(case, [()])
        faultless = ran.seen
        if self._observer is not None:
            self._observer.begin(case, faultless)
        self._judge("layouts", case, expected, [()], [ran])
        if self._frontier is not None:
            self._frontier.look(case, [()])
        if faultless.mapped and expected.must_map:
            self._remember(case)
        self._sweep(case, expected, faultless)

    def _remember(self, case: Case) -> None:
        """A layout that is mapped, for what comes after the shard: several threads, and kernel faults."""
        if len(self._for_threads) < self._most_for_threads and suits(case):
            self._for_threads.append(case)
        if len(case.iovec) <= FEW and len(self.mapped) < LAYOUTS:
            self.mapped.setdefault(len(case.iovec), case)

    def _sweep(self, case: Case, expected: Expectation, faultless: Observation) -> None:
        """A fault at each position, and then pairs of faults; of a run that died, at each position before that."""
        # A sweep of thousands of runs is judged in pieces, so that what was observed is not held all at once.
        size = max(1, _PIECE_BYTES // (len(faultless.events) + _RUN_BYTES))
        if faultless.death is not None:
            size = min(size, _MAX_DEATHS_OF_LAYOUT // 2)
        ends = _Ends(hangs=hung(faultless), deaths=faultless.death is not None, counts=faultless.death is not None)
        singles = fault_plans(faultless, self.layouts)
        pairs: list[tuple[Fault, ...]] = []
        for piece in _pieces(singles, size):
            observations = self._run_plans(case, expected, piece, ends)
            pairs += pair_plans(piece, observations, self.layouts)
        for piece in _pieces(pairs, size):
            self._run_plans(case, expected, piece, ends)

    def _run_plans(
        self, case: Case, expected: Expectation, plans: Sequence[tuple[Fault, ...]], ends: _Ends
    ) -> list[Observation]:
        """What was seen of the plans, as far as they were run."""
        observations: list[Observation] = []
        budget = self._budgets["layouts"]
        while (left := plans[len(observations) :]) and not budget.is_spent and not ends.enough:
            budget.begin()
            ran = self._worker.runs(case, left, max_hangs=1)
            self.tally.plans(left[: len(ran)])
            self._judge("layouts", case, expected, left, ran)
            if self._frontier is not None:
                self._frontier.look(case, left[: len(ran)])
            ends.add([one.seen for one in ran])
            observations += [one.seen for one in ran]
        self._left_out["calls with a fault"] += len(plans) - len(observations)
        return observations

    def run_sequence(self, case: Case) -> None:
        """Run a case with what is done after its call, in a fresh process: what it shows needs nothing else."""
        if not self._begins("sequences"):
            return
        case = self._subject.adapt(case)
        worker, policy = self._worker, self._options.policy
        worker.renew()
        ((seen, past),) = worker.runs(case)
        self.tally.beyond(case)
        self.runs += sum(step.call is not None for step in seen.steps)
        if self._counts("sequences", seen):
            verdict = judge_steps(worker, self._subject, policy, case, seen)
            self.checked.update(verdict.checked)
            self._keep(verdict, past)

    def run_kernel_fault(self, case: Case) -> None:
        """Run a layout under a failure that the kernel itself makes, unless this machine is known to refuse that."""
        assert case.kernel_fault is not None
        kind = case.kernel_fault.kind
        if kind in self.not_permitted or not self._begins("kernel faults"):
            return
        try:
            ran = self._worker.runs(case, [()])
        except NotPermittedError as error:
            self.not_permitted[kind] = str(error)
            self._worker.renew()
            return
        self.kernel_runs[kind] += 1
        self.tally.beyond(case)
        self._judge("kernel faults", case, expect(case, self._options.policy), [()], ran)

    def result(self) -> ShardResult:
        return ShardResult(
            layouts=self.layouts,
            runs=self.runs,
            checked=dict(self.checked),
            candidates=self._candidates.found,
            hangs=self.hangs,
            sampled=self.sampled,
            unconfined=_unconfined(self._options, self._worker),
            mapped=tuple(self.mapped.values()),
            kernel_runs=dict(self.kernel_runs),
            not_permitted=self.not_permitted,
            features=self.tally.counts(),
            deaths=self.deaths,
            left_out=dict(+self._left_out),
            seen=self._seen,
            covered=self._worker.covered(),
            pioneers=() if self._frontier is None else tuple(self._frontier.pioneers),
        )

    def _judge(
        self, part: str, case: Case, expected: Expectation, plans: Sequence[tuple[Fault, ...]], ran: list[Ran]
    ) -> None:
        for plan, (seen, past) in zip(plans, ran, strict=False):
            self.runs += 1
            if not self._counts(part, seen):
                continue
            verdict = judge(case.with_faults(*plan) if plan else case, expected, seen, has_errp=self._subject.has_errp)
            if self._observer is not None:
                self._observer.judged(verdict)
            self.checked.update(verdict.checked)
            self.sampled += seen.pages_compared < seen.pages_total
            self._keep(verdict, past)

    def call_concurrently(self) -> None:
        """Call the subject from several threads, in a process where nothing was called before."""
        if not self._for_threads:
            return
        self._worker.renew()
        for drawn in (case for layout in self._for_threads for case in concurrent_cases(layout)):
            if not self._begins("concurrent calls"):
                continue
            case = self._subject.adapt(drawn)
            ((seen, past),) = self._worker.runs(case, rounds=_CONCURRENT_ROUNDS)
            self.tally.beyond(case)
            self.runs += 1
            if self._counts("concurrent calls", seen):
                verdict = judge_concurrent(case, self._options.policy, seen, has_errp=self._subject.has_errp)
                self.checked.update(verdict.checked)
                self._keep(verdict, past)

    def _keep(self, verdict: Verdict, past: Past) -> None:
        for violation in verdict.violations:
            self._seen.add(violation)
            if violation.case.variables == "pattern" or self._needs_zero(violation):
                self._candidates.add(violation, past)

    def _needs_zero(self, violation: Violation) -> bool:
        """Is it seen only where automatic variables are zero until they are set? If not, what is kept is what the usual
        build shows, whose places in the code are other ones."""
        name = key(violation)
        if name not in self._zeroed:
            usual = replace(violation.case, variables="pattern")
            self._worker.renew()
            _, verdict = run_and_judge(self._worker, self._subject, self._options.policy, usual)
            for other in verdict.violations:
                self._seen.add(other)
                self._candidates.add(other, Past([], 0))
            self._zeroed[name] = not any(violation.clause in other.clauses for other in verdict.violations)
        return self._zeroed[name]


class _Ends:
    """How often a layout's runs have ended the process, and hung. One layout must not take the time of all others."""

    def __init__(self, *, hangs: int, deaths: int, counts: bool) -> None:
        self._hangs, self._deaths, self._counts = hangs, deaths, counts

    def add(self, observations: Sequence[Observation]) -> None:
        self._hangs += sum(map(hung, observations))
        self._deaths += sum(seen.death is not None for seen in observations)

    @property
    def enough(self) -> bool:
        """Is the rest to be left out?"""
        return self._hangs >= _MAX_HANGS_OF_LAYOUT or (self._counts and self._deaths >= _MAX_DEATHS_OF_LAYOUT)


def _pieces(plans: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (plans[start : start + size] for start in range(0, len(plans), size))


class Shard(Struct, frozen=True):
    """A part of a campaign: so many layouts, from a seed of its own. The first begins with a layout that no generator
    would come upon: one larger than this machine's memory."""

    number: int
    seed: int
    examples: int


def run_shard(
    subject: Subject,
    options: Options,
    part: Shard,
    between_layouts: Callable[[], None] = lambda: None,
    reached: bytes | None = None,
    *,
    cut_short: Callable[[ShardResult], None] = lambda _: None,
) -> ShardResult:
    """Generate and run a shard's layouts. Deterministic but for what the subject makes of them.

    Told what of the code was `reached` before, the result names the cases that reach more. `cut_short` is told what was
    seen until `between_layouts` raised KeyboardInterrupt.
    """
    with _worker(subject, options) as worker:
        observer = _observer(subject, options)
        frontier = None if reached is None else Frontier(worker, reached)
        shard = _Running(subject, options, worker, observer, frontier, is_first=part.number == 0, layouts=part.examples)
        try:
            _run_layouts(shard, part, observer, between_layouts)
        except KeyboardInterrupt:
            cut_short(shard.result())
            raise
        return shard.result()


def _run_layouts(shard: _Running, part: Shard, observer: Observer | None, between_layouts: Callable[[], None]) -> None:
    examples = part.examples
    by_hand = made_by_hand(part)
    for made in by_hand:
        shard.run_layout(made)
    examples -= len(by_hand)
    # Imported late: who only hands out tasks does without Hypothesis, and a first case is judged before it comes.
    from vfio_verify.generate.strategies import SEQUENCE_BYTES, packed_sequence, run_packed_cases

    sequences: list[Case] = []
    drawn = shard.layouts

    def run_drawn(case: Case) -> None:
        nonlocal drawn
        between_layouts()
        shard.run_layout(case)
        if observer is not None:
            observer.tell()
        drawn += 1
        if drawn % _SEQUENCE_EVERY == _SEQUENCE_EVERY // 2:
            # From a seed of its own: what Hypothesis draws stays the same.
            data = random.Random(f"{part.seed}, layout {drawn}").randbytes(SEQUENCE_BYTES)
            sequences.append(packed_sequence(case, data))

    with nullcontext() if observer is None else observer.writing():
        run_packed_cases(run_drawn, part.seed, examples)
    # Last, since each begins a fresh process: the layouts share one, where a table can fill.
    for case in sequences:
        between_layouts()
        shard.run_sequence(case)
    shard.call_concurrently()


def made_by_hand(part: Shard) -> tuple[Case, ...]:
    """The layouts with which a shard begins: what every check is to run, and is hardly ever drawn. At most half of
    its layouts are of these."""
    first: tuple[Case | None, ...] = (_of_large_numbers(part.number), long_list(part.number))
    start, end = _MALFORMED.get(part.number, (0, 0))
    made = (*(case for case in first if case is not None), *malformed()[start:end])
    return made[: part.examples // 2]


_MALFORMED = {1: (0, 19), 2: (19, None)}
"""By the shard: which of the malformed layouts it has."""


def _of_large_numbers(number: int) -> Case | None:
    match number:
        case 0:
            return larger_than(2 * _memory_and_swap())
        case 1:
            return off_by_4_gib()
        case 2:
            return sums_past_4_gib()
        case _:
            return None


def run_kernel_faults(
    subject: Subject,
    options: Options,
    layouts: Sequence[Case],
    kinds: Sequence[KernelFaultKind],
    between_layouts: Callable[[], None] = lambda: None,
) -> ShardResult:
    """Run layouts that the subject maps, and a long one, under the kernel faults of these kinds, in a worker of their
    own. Kind by kind: what is dear to set up is done once."""
    faulty: list[Case] = []
    with _worker(subject, options) as worker:
        for case in map(subject.adapt, (*layouts, long_case())):
            (faultless,) = worker.run(case, [()])
            if faultless.death is None and faultless.mapped:
                faulty += map(subject.adapt, kernel_cases(case, faultless))
        shard = _Running(subject, options, worker)
        for kind in kinds:
            for case in faulty:
                if case.kernel_fault is not None and case.kernel_fault.kind == kind:
                    between_layouts()
                    shard.run_kernel_fault(case)
        return shard.result()


def _observer(subject: Subject, options: Options) -> Observer | None:
    if options.observe is None:
        return None
    from vfio_verify.campaign.observability import Observer

    return Observer(options.observe, subject.name)


def _worker(subject: Subject, options: Options) -> Worker:
    return Worker(subject.library, parse_maps=options.parse_maps, parts=options.parts)


def _unconfined(options: Options, worker: Worker) -> tuple[str, ...]:
    return worker.confinement.notes() if options.sandbox else (OFF_NOTE,)


def _memory_and_swap() -> int:
    """Bytes that this machine has, after which the kernel refuses to charge more."""
    with Path("/proc/meminfo").open() as lines:
        sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["MemTotal"] + sizes.get("SwapTotal", 0)


def shards(options: Options) -> Iterator[Shard]:
    """The first shards are small, so that a subject that fails often is known to fail soon. The last ones are small so
    that several processes end at about the same time."""
    left = options.examples
    for number in itertools.count():
        if left <= 0:
            return
        whole = whole_shard(options.seed, number)
        size = whole.examples if number < len(_FIRST_SIZES) else min(whole.examples, max(_LAST_SIZE, left // 3))
        yield replace(whole, examples=min(size, left))
        left -= size


_FIRST_SIZES, _SIZE, _LAST_SIZE = (10, 40, 100, 100), 250, 80


def whole_shard(seed: int, number: int) -> Shard:
    """A shard of the campaign with this seed, as if it had no end."""
    size = _FIRST_SIZES[number] if number < len(_FIRST_SIZES) else _SIZE
    return Shard(number, seed * 1_000_003 + number, size)


# ---- all of them -------------------------------------------------------------------------------------------


def check(
    subject: Subject,
    options: Options,
    on_candidate: Callable[[Violation], None] | None = None,
    why_no_kernel_fault: Callable[[KernelFaultKind], str | None] = why_not,
    executor: Executor | None = None,
) -> Result:
    """Run a campaign. `on_candidate` hears of each violated clause once, as soon as it is met, before it is shrunk.
    `why_no_kernel_fault` says of a kind why this machine does not permit it. The work is done by the executor if one is
    given, whose number of processes is its own, and else by `jobs` processes here.

    Ctrl-C ends it early: what was found so far is in the result, which is then marked as interrupted. A process that is
    lost costs what it was at work on: the result says so.
    """
    merged = _Merged(on_candidate or (lambda _: None), layouts_again(options.examples))
    tasks = [(subject, options, part) for part in shards(options)]
    reasons = reasons_against(why_no_kernel_fault)
    kinds = permitted(reasons)
    interrupted = False
    settled: dict[Key, Confirmation] = {}
    with Interrupts() as interrupts, Pool(min(options.jobs, len(tasks)), executor) as pool:
        here = {"between_layouts": interrupts.raise_if_asked}
        try:
            interrupts.deferred = pool.is_here
            try:
                faulty: Iterator[ShardResult] | None = None
                for number, result in enumerate(pool.map(run_shard, tasks, **here, cut_short=merged.add), 1):
                    merged.add(result)
                    if faulty is None and (merged.has_enough_to_run_again or number == len(tasks)):
                        # As soon as may be, so that no process waits for the last shard.
                        last = [(subject, options, merged.to_run_again(), some) for some in _shared_out(kinds)]
                        faulty = pool.map(run_kernel_faults, last, **here)
                for result in faulty or ():
                    merged.add(result)
                interrupts.deferred = False
                names, _ = to_confirm({name: _first(one) for name, one in merged.candidates.items()})
                jobs = [(subject, options, merged.candidates[name]) for name in names]
                settled.update(zip(names, pool.map(confirm_and_minimize, jobs), strict=True))
            except LostProcessError:
                if not merged.total.runs:
                    raise
                merged.lose()
                names, _ = to_confirm({name: _first(one) for name, one in merged.candidates.items()})
                for name in [name for name in names if name not in settled]:
                    settled[name] = confirm_and_minimize(subject, options, merged.candidates[name])
        except KeyboardInterrupt:
            interrupted = True
            pool.kill()
    confirmed = [c.violation for c in settled.values() if c.violation is not None]
    doubtful = {name: _first(candidates) for name, candidates in sorted(merged.candidates.items())}
    wanted, unasked = to_confirm(doubtful)
    total = merged.total
    return Result(
        layouts=total.layouts,
        runs=total.runs,
        checked=total.checked,
        confirmed=told(confirmed, total.seen, _line_of(subject)),
        unconfirmed=tuple(doubtful[name] for name, c in settled.items() if c.violation is None),
        interrupted=interrupted,
        sampled=total.sampled,
        unconfined=total.unconfined,
        kernel_faults=account(total.kernel_runs, reasons | total.not_permitted, interrupted=interrupted),
        features=total.features,
        covered=total.covered,
        untried=tuple(doubtful[name] for name in (*wanted, *unasked) if name not in settled),
        left_out=total.left_out,
    )


def _line_of(subject: Subject) -> Callable[[int], str | None]:
    """Names a place in the subject's code by its line."""

    def name(place: int) -> str | None:
        line = subject.line_at(place)
        return None if line is None else f"{line.file.rpartition('/')[2]}:{line.line}"

    return name


def _shared_out(kinds: Sequence[KernelFaultKind]) -> list[list[KernelFaultKind]]:
    """Kernel faults for two processes: to fill the limit of mappings takes as long as all else."""
    dear: list[KernelFaultKind] = [kind for kind in kinds if kind == "map_count"]
    return [some for some in (dear, [kind for kind in kinds if kind not in dear]) if some]


def _first(candidates: Candidates) -> Violation:
    """The one to be shown of those that did not come again."""
    return next(iter(candidates.values())).violation


def check_case(subject: Subject, options: Options, case: Case) -> Result:
    """Judge one case, its fault plan and earlier calls included, as it is. What concurrent calls show is confirmed."""
    case = subject.adapt(case)
    sampled = 0
    unconfirmed: tuple[Violation, ...] = ()
    with _worker(subject, options) as worker:
        if case.concurrent:
            verdict, shown_again = seen_concurrent(worker, subject, options.policy, case)
            violations = tuple(again for _, again in shown_again if again is not None)
            unconfirmed = tuple(one for one, again in shown_again if again is None)
        else:
            seen, verdict = run_and_judge(worker, subject, options.policy, case)
            violations, unconfirmed = _confirmed(worker, subject, options.policy, case, verdict)
            sampled = int(seen.pages_compared < seen.pages_total)
        covered = worker.covered()
    return Result(
        1,
        1,
        dict.fromkeys(verdict.checked, 1),
        violations,
        unconfirmed,
        sampled=sampled,
        unconfined=_unconfined(options, worker),
        features=dict.fromkeys(features(case), 1),
        covered=covered,
    )


def _confirmed(
    worker: Worker, subject: Subject, policy: Policy, case: Case, verdict: Verdict
) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
    """What one of a few more runs shows again, each in a fresh process, and what none does."""
    left = {key(violation): violation for violation in verdict.violations}
    again: set[Key] = set()
    for _ in range(_RUNS_OF_CASE):
        if again >= left.keys():
            break
        worker.renew()
        _, other = run_and_judge(worker, subject, policy, case)
        again |= set(map(key, other.violations))
    return (
        tuple(violation for name, violation in left.items() if name in again),
        tuple(violation for name, violation in left.items() if name not in again),
    )


def confirm_and_minimize(subject: Subject, options: Options, candidates: Candidates) -> Confirmation:
    """Confirm one of a key's candidates in a fresh process and make it small."""
    with _worker(subject, options) as worker:
        return settle_any(worker, subject, options.policy, candidates.values())


class _Merged:
    """Shard results added up in the order of the shards."""

    def __init__(self, on_candidate: Callable[[Violation], None], again: int) -> None:
        self._on_candidate, self._again = on_candidate, again
        self.total = ShardResult(0, 0, {}, {}, 0, 0)
        self._candidates = CandidateTable()
        self._heard: set[str] = set()

    @property
    def candidates(self) -> dict[Key, Candidates]:
        return self._candidates.found

    def add(self, result: ShardResult) -> None:
        self.total = together(self.total, replace(result, candidates={}))
        for violation in self._candidates.merge(result.candidates):
            # What concurrent calls show may not come again; how many causes a clause has is known at the end.
            if not violation.case.concurrent and violation.clause not in self._heard:
                self._heard.add(violation.clause)
                self._on_candidate(violation)

    def lose(self) -> None:
        """A process is gone, with what it was at work on."""
        self.total = together(self.total, ShardResult(0, 0, {}, {}, 0, 0, left_out={"work of a lost process": 1}))

    @property
    def has_enough_to_run_again(self) -> bool:
        """Would further shards add nothing that is needed to `to_run_again`?"""
        return len(self.total.mapped) >= self._again

    def to_run_again(self) -> tuple[Case, ...]:
        """Layouts for kernel faults: those with few segments and with many first."""
        by_length = sorted(self.total.mapped, key=lambda case: len(case.iovec))
        half = self._again // 2
        return tuple(by_length[:half] + by_length[half:][-half:])
