"""One shard of a campaign, run on a worker as good as new, and judged: layouts, each with all its fault positions,
sequences, concurrent calls and kernel faults."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from vfio_verify.campaign.frontier import Frontier, Pioneer
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shards import Shard, made_by_hand
from vfio_verify.campaign.tally import Tally, checked_by
from vfio_verify.errors import NotPermittedError
from vfio_verify.generate.concurrent import concurrent_cases, suits
from vfio_verify.generate.distribution import FeatureCount
from vfio_verify.generate.kernel_faults import FEW, LAYOUTS, kernel_cases, long_case
from vfio_verify.generate.packed import SEQUENCE_BYTES, packed_cases, packed_sequence
from vfio_verify.generate.sweep import fault_plans, pair_plans
from vfio_verify.judge import Verdict, Violation
from vfio_verify.judge.attribution import key
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import CandidateTable
from vfio_verify.trial.findings import Seen
from vfio_verify.trial.hangs import HangBudget, hung
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Case, Fault, KernelFaultKind
from vfio_verify.values.cause import Key
from vfio_verify.values.model import Expectation, expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker.sandbox import OFF_NOTE
from vfio_verify.worker.worker import Past, Ran

if TYPE_CHECKING:
    from vfio_verify.campaign.observability import Observer

T = TypeVar("T")

_PIECE_BYTES, _RUN_BYTES = 2 << 20, 4096
"""Bytes of observations held together, and of one observation besides its trace."""

_CONCURRENT_LAYOUTS, _CONCURRENT_ROUNDS = 2, 24
"""Well-formed layouts of a shard that several threads map concurrently, and the rounds of each such case."""
_SMALL_SHARD = 100
"""A shard of fewer layouts has only one of these: the concurrent calls would take longer than all else."""

_SEQUENCE_EVERY = 16
"""One layout in so many has its world used for a sequence too."""

_HANGS: dict[str, tuple[int, int]] = {
    "layouts": (1, 8),
    "sequences": (1, 2),
    "concurrent calls": (1, 0),
    "kernel faults": (1, 2),
}
"""The hangs of each part of a shard that are waited for to the end, which takes seconds, and those given up early."""

_FIRST_HANGS = 2
"""Hangs waited for to the end among the layouts of the first shard."""

_MAX_HANGS_OF_LAYOUT, _MAX_DEATHS_OF_LAYOUT = 2, 16
"""After so many, the rest of a layout's fault positions is left out. Deaths count where the layout ends the process
without a fault, too."""


class ShardResult(Struct):
    """What one shard saw, or several of them together."""

    tally: Tally = field(default_factory=Tally)
    candidates: CandidateTable = field(default_factory=CandidateTable)
    seen: Seen = field(default_factory=Seen)
    mapped: dict[int, Case] = {}
    """Layouts to be run under kernel faults, by their number of segments, which is at most `FEW`."""
    pioneers: list[Pioneer] = []
    """Cases that were the first to reach some of the subject's code, where that is asked for."""
    unconfined: tuple[str, ...] = ()
    """A line for each feature of the sandbox that was missing."""

    def add(self, other: ShardResult) -> list[Violation]:
        """Add what another shard saw. Returns a violation of each way of violating a clause that is new. Where both
        have a layout to run again, it is the first's."""
        self.tally.add(other.tally)
        self.seen = self.seen.with_others(other.seen)
        self.mapped = other.mapped | self.mapped
        self.pioneers = self.pioneers + other.pioneers
        self.unconfined = tuple(dict.fromkeys((*self.unconfined, *other.unconfined)))
        return self.candidates.merge(other.candidates)


class ShardRunner:
    """Runs cases and keeps what they showed in `result`."""

    def __init__(
        self,
        runner: Runner,
        *,
        observer: Observer | None = None,
        reached: bytes | None = None,
        first_hangs: int = _HANGS["layouts"][0],
        for_threads: int = 1,
    ) -> None:
        self._runner, self._worker, self._observer = runner, runner.worker, observer
        self._frontier = None if reached is None else Frontier(runner.worker, reached)
        self._result = ShardResult()
        self._tally = self._result.tally
        self._features = FeatureCount()
        self._checked: Counter[frozenset[str]] = Counter()
        self._zeroed: dict[Key, bool] = {}
        self._for_threads: list[Case] = []
        self._most_for_threads = for_threads
        self._budgets = {part: HangBudget(runner.worker, *hangs) for part, hangs in _HANGS.items()}
        self._budgets["layouts"] = HangBudget(runner.worker, first_hangs, _HANGS["layouts"][1])

    @property
    def layouts(self) -> int:
        """How many have been run."""
        return self._tally.layouts

    def result(self) -> ShardResult:
        """What was seen until now."""
        self._tally.features = self._features.counts()
        self._tally.checked = checked_by(self._checked)
        self._tally.covered = self._worker.covered()
        if self._frontier is not None:
            self._result.pioneers = self._frontier.pioneers
        return self._result

    def run_layout(self, drawn: Case) -> None:
        """Run one layout: without a fault, then with a fault at each position."""
        if not self._begins("layouts"):
            return
        case = self._runner.subject.adapt(drawn)
        expected = expect(case, self._runner.policy)
        self._tally.layouts += 1
        self._features.layout(case)
        (ran,) = self._worker.runs(case)
        faultless = ran.seen
        if self._observer is not None:
            self._observer.begin(case, faultless)
        self._judge("layouts", expected, [ran])
        if self._frontier is not None:
            self._frontier.look([case])
        if faultless.mapped and expected.must_map:
            self._tally.mapped += 1
            self._remember(case)
        self._sweep(case, expected, faultless)

    def run_sequence(self, case: Case) -> None:
        """Run a case with what is done after its call, in a fresh process: what it shows needs nothing else."""
        if not self._begins("sequences"):
            return
        case = self._runner.subject.adapt(case)
        self._worker.renew()
        ((_, seen, past),) = self._worker.runs(case)
        self._features.beyond(case)
        self._tally.runs += sum(step.call is not None for step in seen.steps)
        if self._counts("sequences", seen):
            self._keep(self._runner.judge_steps(case, seen), past)

    def run_concurrent_calls(self) -> None:
        """Call the subject from several threads, in a process where nothing was called before."""
        if not self._for_threads:
            return
        self._worker.renew()
        for drawn in (case for layout in self._for_threads for case in concurrent_cases(layout)):
            if not self._begins("concurrent calls"):
                continue
            case = self._runner.subject.adapt(drawn)
            ((_, seen, past),) = self._worker.runs(case, rounds=_CONCURRENT_ROUNDS)
            self._features.beyond(case)
            self._tally.runs += 1
            if self._counts("concurrent calls", seen):
                self._keep(self._runner.judge_concurrent(case, seen), past)

    def run_kernel_fault(self, case: Case) -> None:
        """Run a layout under a failure that the kernel itself makes, unless this machine is known to refuse that."""
        assert case.kernel_fault is not None
        kind = case.kernel_fault.kind
        if kind in self._tally.not_permitted or not self._begins("kernel faults"):
            return
        try:
            ran = self._worker.runs(case)
        except NotPermittedError as error:
            self._tally.not_permitted[kind] = str(error)
            self._worker.renew()
            return
        self._tally.kernel_runs[kind] = self._tally.kernel_runs.get(kind, 0) + 1
        self._features.beyond(case)
        self._judge("kernel faults", expect(case, self._runner.policy), ran)

    # ---- the faults of a layout ---------------------------------------------------------------------------------

    def _sweep(self, case: Case, expected: Expectation, faultless: Observation) -> None:
        """Run a fault at each position, and then pairs of faults; where a run died, at each position before that."""
        # A sweep of thousands of runs is judged in pieces, so that what was observed is not held all together.
        size = max(1, _PIECE_BYTES // (len(faultless.events) + _RUN_BYTES))
        if faultless.death is not None:
            size = min(size, _MAX_DEATHS_OF_LAYOUT // 2)
        ends = _Ends(faultless)
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
            self._features.plans(left[: len(ran)])
            self._judge("layouts", expected, ran)
            if self._frontier is not None:
                self._frontier.look([one.case for one in ran])
            ends.add([one.seen for one in ran])
            observations += [one.seen for one in ran]
        self._tally.leave_out("calls with a fault", len(plans) - len(observations))
        return observations

    def _remember(self, case: Case) -> None:
        """Keep a layout that is mapped for what comes after the shard: concurrent calls, and kernel faults."""
        if len(self._for_threads) < self._most_for_threads and suits(case):
            self._for_threads.append(case)
        if len(case.iovec) <= FEW and len(self._result.mapped) < LAYOUTS:
            self._result.mapped.setdefault(len(case.iovec), case)

    # ---- what is seen -------------------------------------------------------------------------------------------

    def _begins(self, part: str) -> bool:
        """Whether one more run of this part is made. One that is not is counted as left out."""
        if self._budgets[part].is_spent:
            self._tally.leave_out(part)
            return False
        self._budgets[part].begin()
        return True

    def _counts(self, part: str, seen: Observation) -> bool:
        """Count a run. False if it was given up, and is not to be judged."""
        self._tally.hangs += hung(seen)
        self._tally.deaths += seen.death is not None or any(step.call and step.call.death for step in seen.steps)
        if self._budgets[part].end(seen):
            return True
        self._tally.leave_out("calls given up")
        return False

    def _judge(self, part: str, expected: Expectation, ran: list[Ran]) -> None:
        for case, seen, past in ran:
            self._tally.runs += 1
            if not self._counts(part, seen):
                continue
            verdict = self._runner.judge(case, expected, seen)
            if self._observer is not None:
                self._observer.judged(verdict)
            self._tally.sampled += seen.pages_compared < seen.pages_total
            self._keep(verdict, past)

    def _keep(self, verdict: Verdict, past: Past) -> None:
        self._checked[verdict.checked] += 1
        for violation in verdict.violations:
            self._result.seen.add(violation)
            if violation.case.variables == "pattern" or self._needs_zero(violation):
                self._result.candidates.add(violation, past)

    def _needs_zero(self, violation: Violation) -> bool:
        """Whether it is seen only where automatic variables are zero until they are set. If not, what is kept is what
        the usual build shows, whose places in the code are others."""
        name = key(violation)
        if name not in self._zeroed:
            self._worker.renew()
            _, verdict = self._runner.run_and_judge(replace(violation.case, variables="pattern"))
            for other in verdict.violations:
                self._result.seen.add(other)
                self._result.candidates.add(other, Past([], 0))
            self._zeroed[name] = not any(violation.clause in other.clauses for other in verdict.violations)
        return self._zeroed[name]


class _Ends:
    """How often a layout's runs have ended the process, and hung. One layout must not take the time of all others."""

    def __init__(self, faultless: Observation) -> None:
        self._hangs, self._deaths = int(hung(faultless)), int(faultless.death is not None)
        self._deaths_count = faultless.death is not None

    def add(self, observations: Sequence[Observation]) -> None:
        self._hangs += sum(map(hung, observations))
        self._deaths += sum(seen.death is not None for seen in observations)

    @property
    def enough(self) -> bool:
        """Whether the rest of the layout's faults is left out."""
        return self._hangs >= _MAX_HANGS_OF_LAYOUT or (self._deaths_count and self._deaths >= _MAX_DEATHS_OF_LAYOUT)


def _pieces(plans: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (plans[start : start + size] for start in range(0, len(plans), size))


# ---- tasks ------------------------------------------------------------------------------------------------------


def run_shard(
    subject: Subject,
    options: Options,
    part: Shard,
    between_layouts: Callable[[], None] = lambda: None,
    reached: bytes | None = None,
    *,
    shared: Sequence[Runner] = (),
) -> ShardResult:
    """Generate and run a shard's layouts on one subject.

    With what of the code was `reached` before, the result names the cases that reach more.
    """
    (result,) = run_shard_on_each((subject,), options, part, between_layouts, reached, shared=shared)
    return result


def run_shard_on_each(
    subjects: Sequence[Subject],
    options: Options,
    part: Shard,
    between_layouts: Callable[[], None] = lambda: None,
    reached: bytes | None = None,
    *,
    shared: Sequence[Runner] = (),
    cut_short: Callable[[list[ShardResult]], object] = lambda _: None,
) -> list[ShardResult]:
    """Generate a shard's layouts, and run each on every subject. Deterministic but for what the subjects make of them.

    `shared` are the runners of this process. `cut_short` is given what was seen until `between_layouts` raised
    KeyboardInterrupt.
    """
    observer = _observer(subjects[0], options)
    with ExitStack() as stack:
        runners = [stack.enter_context(fresh_runner(subject, options, shared)) for subject in subjects]
        shards = [
            ShardRunner(
                runner,
                observer=observer,
                reached=reached,
                first_hangs=_FIRST_HANGS if part.number == 0 else _HANGS["layouts"][0],
                for_threads=_CONCURRENT_LAYOUTS if part.examples >= _SMALL_SHARD else 1,
            )
            for runner in runners
        ]

        def results() -> list[ShardResult]:
            return [_confined(shard, runner, options) for shard, runner in zip(shards, runners, strict=True)]

        try:
            _run_layouts(shards, part, observer, between_layouts)
        except KeyboardInterrupt:
            cut_short(results())
            raise
        return results()


def _run_layouts(
    shards: Sequence[ShardRunner], part: Shard, observer: Observer | None, between_layouts: Callable[[], None]
) -> None:
    by_hand = made_by_hand(part)
    for made, shard in itertools.product(by_hand, shards):
        shard.run_layout(made)
    sequences: list[Case] = []
    drawn = len(by_hand)

    def run_drawn(case: Case) -> None:
        nonlocal drawn
        between_layouts()
        for shard in shards:
            shard.run_layout(case)
        drawn += 1
        if drawn % _SEQUENCE_EVERY == _SEQUENCE_EVERY // 2:
            # From a seed of its own: the layouts stay the same.
            data = random.Random(f"{part.seed}, layout {drawn}").randbytes(SEQUENCE_BYTES)
            sequences.append(packed_sequence(case, data))

    cases = packed_cases(part.seed, part.examples - len(by_hand))
    if observer is None:
        for case in cases:
            run_drawn(case)
    else:
        observer.observe(list(cases), run_drawn)
    # Last, since each begins a fresh process: the layouts share one, where a table can fill.
    for case, shard in itertools.product(sequences, shards):
        between_layouts()
        shard.run_sequence(case)
    for shard in shards:
        shard.run_concurrent_calls()


def get_ready() -> None:
    """Do nothing: a process that has nothing to do yet has read what a shard needs once it can call this."""


def run_kernel_faults(
    subject: Subject,
    options: Options,
    layouts: Sequence[Case],
    kinds: Sequence[KernelFaultKind],
    between_layouts: Callable[[], None] = lambda: None,
    *,
    shared: Sequence[Runner] = (),
) -> ShardResult:
    """Run layouts that the subject maps, and a long one, under the kernel faults of these kinds. Kind by kind: what is
    dear to set up is done once."""
    with fresh_runner(subject, options, shared) as runner:
        mapped: list[tuple[Case, Observation]] = []
        for case in map(subject.adapt, (*layouts, long_case())):
            (faultless,) = runner.worker.run(case)
            if faultless.death is None and faultless.mapped:
                mapped.append((case, faultless))
        shard = ShardRunner(runner)
        for kind in kinds:
            for case, faultless in mapped:
                for faulty in kernel_cases(case, faultless, kind):
                    between_layouts()
                    shard.run_kernel_fault(subject.adapt(faulty))
        return _confined(shard, runner, options)


def _observer(subject: Subject, options: Options) -> Observer | None:
    if options.observe is None:
        return None
    from vfio_verify.campaign.observability import Observer

    return Observer(options.observe, subject.name)


def open_runner_for(subject: Subject, options: Options) -> AbstractContextManager[Runner]:
    """A runner with a worker of its own, as the options of a check ask for it."""
    return open_runner(subject, options.policy, parts=options.parts, parse_maps=options.parse_maps)


@contextmanager
def fresh_runner(subject: Subject, options: Options, shared: Sequence[Runner]) -> Iterator[Runner]:
    """A runner as if it was just opened: the subject's among those that all tasks of this process share, or one for
    this task alone."""
    known = next((runner for runner in shared if runner.subject is subject), None)
    if known is None:
        with open_runner_for(subject, options) as own:
            yield own
    else:
        known.worker.reset()
        yield known


def unconfined(runner: Runner, options: Options) -> tuple[str, ...]:
    """A line for each feature of the sandbox that is missing."""
    return runner.worker.confinement.notes() if options.sandbox else (OFF_NOTE,)


def _confined(shard: ShardRunner, runner: Runner, options: Options) -> ShardResult:
    result = shard.result()
    result.unconfined = unconfined(runner, options)
    return result
